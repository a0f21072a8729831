"""From plan, reports and observations to one verdict on a workload, before any thought of history.

A place is one pod set in one cluster. It is *held* when it has what it should have now, and *complete* when its
controller has also finished rolling out what was last applied: a workload begins to run when it is complete, and goes
on running while it is held, so that a rolling update does not look like an outage.
"""

from __future__ import annotations

from msgspec import Struct

from services.status.decision.clusters import Roster
from services.status.decision.facts import UNSCHEDULABLE, OwnedFacts, ReportFacts, Tally
from services.status.decision.plan import Mode, Plan, SetPlan, Share
from services.status.decision.tracked import Tracked
from services.status.decision.values import Counts

NOT_REPORTED = "NotYetReported"
ENDING = frozenset({Mode.COMPLETION, Mode.JOB})
_MOST_NAMES = 8
_NOTHING = Tally()


class Fault(Struct, frozen=True, gc=False):
    """Why something is not as it should be."""

    reason: str
    message: str = ""


class PlaceVerdict(Struct, frozen=True, gc=False):
    """`ready` are replicas that count: surplus in one place does not make up for a lack in another. `unbound`: for some
    pods the cluster finds no node.
    """

    pod_set: str
    counts: Counts
    ready: int
    held: bool
    complete: bool
    succeeded: bool = False
    failure: Fault | None = None
    trouble: str = ""
    unbound: bool = False


class ClusterVerdict(Struct, frozen=True, gc=False):
    cluster: str
    places: tuple[PlaceVerdict, ...]
    generation: int | None
    applied: bool
    silent: bool
    left: bool = False
    fault: Fault | None = None
    permanent: bool = False
    applied_at: int = 0
    digest: str = ""


class Verdict(Struct, frozen=True, gc=False):
    """Everything about a workload's present state that its phase, conditions and counts follow from.

    `left` and `silent`: clusters in use that are no part of the fleet any more, and others that are not heard.
    `refused`: an API server will never accept what was applied; `failure`: what was applied ran and failed.
    """

    clusters: tuple[ClusterVerdict, ...]
    applied: bool
    held: bool
    complete: bool
    succeeded: bool
    left: tuple[str, ...]
    silent: tuple[str, ...]
    failure: Fault | None
    refused: Fault | None
    unapplied: Fault | None
    applied_at: int
    desired: int
    ready: int
    drift: Fault | None = None

    @property
    def trouble(self) -> str:
        return next((place.trouble for part in self.clusters for place in part.places if place.trouble), "")

    @property
    def unbound(self) -> bool:
        """Whether some cluster finds no node for pods."""
        return any(place.unbound for part in self.clusters for place in part.places)


def assess(tracked: Tracked, plan: Plan, roster: Roster) -> Verdict:
    in_use = plan.clusters
    parts = tuple(_assess_cluster(tracked, plan, cluster, roster) for cluster in _mentioned(tracked, plan))
    used = [part for part in parts if part.cluster in in_use]
    places = [place for part in used for place in part.places]
    waiting = plan.waiting is not None
    applied = not waiting and all(part.applied for part in used)
    ends = bool(plan.sets) and all(item.mode in ENDING and item.desired for item in plan.sets)
    applied_at = max((part.applied_at for part in used), default=0)
    unapplied = next((part for part in used if not part.applied), None)
    return Verdict(
        clusters=parts,
        applied=applied,
        held=not waiting and all(place.held for place in places),
        complete=applied and all(place.complete for place in places),
        succeeded=applied and ends and all(place.succeeded for place in places),
        left=tuple(part.cluster for part in used if part.left),
        silent=tuple(part.cluster for part in used if part.silent and not part.left),
        failure=_failure(used),
        refused=next((_located(part, part.fault) for part in used if part.fault and part.permanent), None),
        unapplied=_located(unapplied, unapplied.fault or Fault(NOT_REPORTED, "no report yet")) if unapplied else None,
        applied_at=applied_at,
        desired=sum(_desired(item, places) for item in plan.sets),
        ready=sum(place.ready for part in parts for place in part.places),
        drift=_drift(tracked, plan, roster),
    )


def unheard(verdict: Verdict) -> Fault | None:
    """Why nobody knows what runs in some of the clusters; None if all are heard."""
    if verdict.left:
        return Fault("ClusterLeft", f"no longer in the fleet: {_names(verdict.left)}; the state there is unknown")
    if verdict.silent:
        return Fault("ClusterSilent", f"no heartbeat of {_names(verdict.silent)}: the state there is unknown")
    return None


def _drift(tracked: Tracked, plan: Plan, roster: Roster) -> Fault | None:
    """How some clusters hold something else than was asked, however their pods may look."""
    drifts = sorted(roster.drift_of(tracked.key, plan))
    if not drifts:
        return None
    words = [f"{cluster}: {drift.value}" for cluster, drift in drifts]
    return Fault(drifts[0][1].value, ", ".join(words[:_MOST_NAMES]))


def _names(clusters: tuple[str, ...]) -> str:
    return ", ".join(clusters[:_MOST_NAMES])


def _desired(item: SetPlan, places: list[PlaceVerdict]) -> int:
    """A DaemonSet's pods are as many as its clusters have nodes for; all others are as many as were asked for."""
    if item.mode is not Mode.DAEMON:
        return item.desired
    return sum(place.counts.desired for place in places if place.pod_set == item.name)


def _mentioned(tracked: Tracked, plan: Plan) -> list[str]:
    observed = {cluster for (cluster, _), tally in tracked.tallies.items() if tally.pods}
    return sorted({*plan.clusters, *plan.withdrawn, *observed})


def _located(part: ClusterVerdict, fault: Fault) -> Fault:
    return Fault(fault.reason, f"{part.cluster}: {fault.message}")


def _failure(parts: list[ClusterVerdict]) -> Fault | None:
    return next((_located(part, place.failure) for part in parts for place in part.places if place.failure), None)


def _assess_cluster(tracked: Tracked, plan: Plan, cluster: str, roster: Roster) -> ClusterVerdict:
    shares = dict(plan.shares_in(cluster))
    silent = roster.silent(cluster)
    report = tracked.reports.get(cluster)
    wanted = tracked.wanted.get(cluster)
    applied, applied_at = _applied(tracked, plan, cluster, report, wanted)
    places = []
    for item in plan.sets:
        share = shares.get(item.name)
        tally = tracked.tallies.get((cluster, item.name))
        if share is None and (tally is None or not tally.pods):
            continue
        owned = tracked.owned_in(cluster, item.name)
        fresh = not _outdated(tally or _NOTHING, owned, report, tracked.since.get(item.name, 0))
        places.append(_assess_place(item, share, tally or _NOTHING, owned, applied=applied, silent=silent, fresh=fresh))
    fault = _report_fault(report, wanted) if cluster in tracked.wanted else None
    generation = report.generation if report else None
    permanent = fault is not None and report is not None and report.permanent
    return ClusterVerdict(
        cluster,
        tuple(places),
        generation,
        applied,
        silent,
        left=roster.left(cluster),
        fault=fault,
        permanent=permanent,
        applied_at=applied_at if applied else 0,
        digest=report.digest if report else "",
    )


def _applied(
    tracked: Tracked, plan: Plan, cluster: str, report: ReportFacts | None, wanted: int | None
) -> tuple[bool, int]:
    """Whether the cluster has what it should run, and since when, if that is known.

    The executor's report says so; where it was lost, objects do that carry the wanted generation.
    """
    if wanted is None:
        return False, 0
    if report is not None and report.generation >= wanted:
        return report.applied, report.reported_at
    shares = [share for share in plan.shares_in(cluster) if share[1].replicas]
    witnessed = bool(shares) and all(_witnessed(tracked, cluster, name, share, wanted) for name, share in shares)
    return witnessed, 0


def _witnessed(tracked: Tracked, cluster: str, pod_set: str, share: Share, wanted: int) -> bool:
    owned = tracked.owned_in(cluster, pod_set)
    if owned is not None:
        return owned.generation is not None and owned.generation >= wanted
    tally = tracked.tallies.get((cluster, pod_set))
    if tally is None:
        return False
    return sum(number for at, number in tally.generations.items() if at >= wanted) >= share.replicas


def _outdated(tally: Tally, owned: OwnedFacts | None, report: ReportFacts | None, since: int) -> bool:
    """Whether what was seen is older than what the executor reported: the watcher lags behind, for however long.

    Every object carries the digest of the last command that had another one, and pods that were bound the generation
    of the one that made them; `since` is the one that last changed their template.
    """
    if owned is not None and report is not None and owned.digest and report.digest:
        return owned.digest != report.digest and (owned.generation or 0) < report.generation
    return any(generation < since for generation in tally.generations)


def _report_fault(report: ReportFacts | None, wanted: int | None) -> Fault | None:
    if report is None or wanted is None or report.generation < wanted or not report.failed:
        return None
    return Fault(report.reason or "ApplyFailed", report.message)


def _assess_place(
    item: SetPlan,
    share: Share | None,
    tally: Tally,
    owned: OwnedFacts | None,
    *,
    applied: bool,
    silent: bool,
    fresh: bool,
) -> PlaceVerdict:
    replicas = share.replicas if share else 0
    desired = owned.wanted if item.mode is Mode.DAEMON and owned is not None and share else replicas
    # Who now binds its pods itself counts none that a controller made, and has yet to take away.
    counted = tally.ready - (tally.unmarked if share is not None and share.bindings else 0)
    ready, running = (0, 0) if silent else (counted, tally.running)
    succeeded = max(tally.succeeded, owned.succeeded if owned else 0)
    if item.mode is Mode.NO_PODS:
        ready = running = desired if applied and not silent else 0
    counts = Counts(
        desired=desired,
        placed=replicas,
        pods=tally.pods,
        running=running,
        ready=ready,
        succeeded=succeeded,
        failed=tally.failed,
    )
    held, complete, ended = _held(item, counts, owned, applied=applied)
    held = held and not silent
    done = ready + (succeeded if item.mode in ENDING else 0)
    return PlaceVerdict(
        item.name,
        counts,
        ready=desired if held else min(desired, done),
        held=held,
        complete=complete and held and fresh,
        succeeded=ended,
        failure=_place_failure(item.mode, tally, owned),
        trouble="" if held else next(iter(tally.troubles), ""),
        unbound=not held and UNSCHEDULABLE in tally.troubles,
    )


def _held(item: SetPlan, counts: Counts, owned: OwnedFacts | None, *, applied: bool) -> tuple[bool, bool, bool]:
    """Whether a place is held, complete, and at its end."""
    rolled_out = _rolled_out(counts, owned) if item.rolled or owned is not None else True
    match item.mode:
        case Mode.NO_PODS:
            return applied, applied, False
        case Mode.DAEMON:
            return counts.ready >= counts.desired, rolled_out, False
        case Mode.COMPLETION:
            held = counts.running + counts.succeeded >= counts.placed
            return held, counts.ready + counts.succeeded >= counts.placed, counts.succeeded >= counts.placed
        case Mode.JOB:
            ended = owned is not None and owned.complete
            began = ended or counts.ready + counts.succeeded > 0
            alive = began or counts.running > 0 or (owned is not None and owned.active > 0)
            return alive or not counts.placed, began or not counts.placed, ended or not counts.placed
    return counts.ready >= counts.placed, rolled_out, False


def _rolled_out(counts: Counts, owned: OwnedFacts | None) -> bool:
    """Whether a controller has made everything as it was last applied.

    While replicas of a former specification are left, they may be the ones that are ready; so may they where somebody
    took the controller away. Pods are seen sooner or later than it is: only it counts all of them at one moment.
    """
    return (
        owned is not None
        and owned.current
        and not owned.outdated
        and min(owned.updated, owned.ready) >= min(counts.placed, owned.wanted)
    )


def _place_failure(mode: Mode, tally: Tally, owned: OwnedFacts | None) -> Fault | None:
    if mode is Mode.JOB and owned is not None and owned.failed:
        return Fault(owned.reason or "JobFailed", owned.message)
    if mode is Mode.COMPLETION and tally.failed:
        return Fault("PodFailed", f"{tally.failed} of {tally.pods} pods failed")
    return None
