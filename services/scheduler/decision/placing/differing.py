"""Where one pod set differs from cluster to cluster, and where it cannot be because its overrides cannot."""

from __future__ import annotations

from services.scheduler.decision.asked.overrides import ChangesFactsError
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.seen.fleet import Fleet
from shared.events.v1.decisions import PodSetPlacement
from shared.model.identities import CLUSTER_LABEL

OVERRIDES = "OverridesConflict"


class Differing:
    """`unfit` are the clusters, by index, whose overrides cannot be applied together.

    Labels of a cluster that is not heard of are not known: there what applied before applies still.
    """

    def __init__(self, fleet: Fleet, plan: PodSetPlan, previous: PodSetPlacement | None) -> None:
        assert plan.overrides is not None
        self._overrides = plan.overrides
        shares = previous.shares if previous is not None else ()
        self._names = {share.cluster: plan.overrides.still(share.overrides) for share in shares}
        self.unfit: dict[int, str] = {}
        for cluster in fleet.clusters:
            if cluster.heartbeat is not None or cluster.name not in self._names:
                self._names[cluster.name] = self._overrides.names_for(cluster.name, cluster.labels)
            if self._overrides.problem(self._names[cluster.name]) is not None:
                self.unfit[cluster.index] = cluster.name

    def names_in(self, cluster: str) -> tuple[str, ...]:
        """The overrides that apply in a cluster."""
        if cluster not in self._names:
            self._names[cluster] = self._overrides.names_for(cluster, {CLUSTER_LABEL: cluster})
        return self._names[cluster]

    def is_impossible(self, cluster: str) -> bool:
        """Whether nothing can be rendered for a cluster. What merely should not be changed so stays where it is."""
        problem = self._overrides.problem(self.names_in(cluster))
        return problem is not None and not isinstance(problem, ChangesFactsError)

    @property
    def message(self) -> str:
        """In words, for replicas that wait for it."""
        names = sorted(self.unfit.values())
        problem = self._overrides.problem(self._names[names[0]])
        where = f"{problem.field}: {problem}" if problem is not None else ""
        return f"its overrides cannot be applied together in clusters that have room: {', '.join(names)}: {where}"
