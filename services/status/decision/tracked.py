"""One workload as the machine knows it: what was promised, what was reported and seen, and what was last said of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import UNSET

from services.status.decision.facts import NodesFacts, OwnedFacts, ReportFacts, ScalingFacts, Tally
from services.status.decision.plan import Plan, Refusal
from services.status.decision.values import WorkloadStatus
from shared.events.v1.status import Phase

# Phases after which a status is only kept to be read.
ENDED = frozenset({Phase.DELETED, Phase.REJECTED})

Place = tuple[str, str]  # cluster, pod set


@dataclass(slots=True)
class Tracked:
    """`said` is the last status, published or about to be: phase, step, milestones and conditions go on from it.

    `wanted` is for each cluster the generation that last changed what it should run: a report of that one or a later
    one means that the cluster has it. `since` is for each pod set the generation that last changed its template, if
    that was seen.
    """

    key: str
    namespace: str
    name: str
    plan: Plan | None = None
    refused: Refusal | None = None
    wanted: dict[str, int] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    reports: dict[str, ReportFacts] = field(default_factory=dict)
    tallies: dict[Place, Tally] = field(default_factory=dict)
    owned: dict[str, tuple[str, OwnedFacts]] = field(default_factory=dict)
    scaling: ScalingFacts | None = None
    nodes: NodesFacts | None = None
    said: WorkloadStatus | None = None
    placed_before: bool = False  # an outdated placement stands in the log: the workload is not gone
    dirty: bool = False
    at_ms: int = 0
    cause: str = ""
    traceparent: str = ""

    @property
    def alive(self) -> bool:
        """Whether the last status is of a workload that exists."""
        return self.said is not None and self.said.phase not in ENDED

    @property
    def empty(self) -> bool:
        """Whether nothing is known of it any more."""
        known = self.plan or self.refused or self.said or self.scaling or self.nodes
        return known is None and not (self.tallies or self.owned)

    def owned_in(self, cluster: str, pod_set: str) -> OwnedFacts | None:
        return next((o for where, o in self.owned.values() if where == cluster and o.pod_set == pod_set), None)

    def adopt(self, plan: Plan) -> None:
        """Takes a newer plan. A cluster whose shares are as before need not report anew."""
        before = self.plan
        wanted: dict[str, int] = {}
        for cluster in plan.clusters:
            same = (
                before is not None and before.same_line(plan) and before.shares_in(cluster) == plan.shares_in(cluster)
            )
            wanted[cluster] = self.wanted.get(cluster, plan.generation) if same else self._wanted_before(plan, cluster)
        self.since = self._templates_since(plan)
        self.plan, self.wanted, self.refused = plan, wanted, None
        in_use = {*plan.clusters, *plan.withdrawn}
        self.reports = {cluster: report for cluster, report in self.reports.items() if cluster in in_use}

    def _templates_since(self, plan: Plan) -> dict[str, int]:
        before = self._templates_before(plan)
        since: dict[str, int] = {}
        for item in plan.sets:
            template, generation = before.get(item.name, (item.template, 0))
            since[item.name] = generation if template == item.template else plan.generation
        return since

    def _templates_before(self, plan: Plan) -> dict[str, tuple[str, int]]:
        """Each pod set's template and since when it has it; after a restart as the last status says."""
        if self.plan is not None:
            return {item.name: (item.template, self.since.get(item.name, 0)) for item in self.plan.sets}
        if self.said is None or self.said.uid != plan.uid:
            return {}
        told = {item.name: item.template for item in self.said.pod_sets}
        return {name: (item.digest, item.generation) for name, item in told.items() if item is not UNSET}

    def _wanted_before(self, plan: Plan, cluster: str) -> int:
        """After a restart: what was applied then still is, if the last status counted the same replicas."""
        said = self.said
        if self.plan is None and said is not None and self._same_line_as_said(plan):
            part = next((item for item in said.clusters if item.cluster == cluster), None)
            if part is not None and part.applied and part.generation is not UNSET:
                then = {item.name: item.counts.placed for item in part.pod_sets if item.counts.placed}
                now = {name: share.replicas for name, share in plan.shares_in(cluster) if share.replicas}
                if then == now and self._same_templates(plan):
                    return min(part.generation, plan.generation)
        return plan.generation

    def _same_templates(self, plan: Plan) -> bool:
        """Within one specification they change with the requests that are applied."""
        before = self._templates_before(plan)
        return all(before.get(item.name, (item.template, 0))[0] == item.template for item in plan.sets)

    def _same_line_as_said(self, plan: Plan) -> bool:
        said = self.said
        return said is not None and said.uid == plan.uid and said.workload_generation == plan.workload_generation

    def forget_plan(self) -> None:
        self.plan = None
        self.wanted = {}
        self.since = {}
        self.reports = {}
