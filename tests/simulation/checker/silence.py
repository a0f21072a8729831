"""A cluster whose watcher is silent is neither healthy nor empty: what it runs does not count as ready.

It is left in an orderly way: when it was silent for as long as that is tolerated, and what it ran is given up when
as much is ready elsewhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from shared.events.registry import decode
from shared.events.topics import DECISIONS, OBJECTS, STATUS
from shared.events.v1.decisions import PodSetPlacement, Positions, WorkloadPlaced
from shared.events.v1.objects import UNREACHABLE, ClusterObserved
from shared.events.v1.status import WorkloadStatus
from shared.model.identities import POD_SET_LABEL, heartbeat_cluster
from tests.simulation.checker.clusters import is_alive, is_ready, workload_of
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.history import History

_Beats = dict[str, list[int]]
# By cluster, its heartbeats: partition, offset, when.
_Heard = dict[str, list[tuple[int, int, int]]]
# So long without a heartbeat is silence, and more; that it is noticed and told takes some more.
_SILENT_MS = 15_000
_TOLD_MS = 10_000
# After so long without a heartbeat a cluster is silent for the scheduler: nothing new can be known of it.
_DEAF_MS = 9_000
# A cluster is left when it was silent for 9 s, for a leader who read so far, and that was tolerated for 5 s more.
_HASTY_MS = 14_000
# So old may be what a leader knows of pods.
_SEEN_MS = 30_000


class Heartbeats:
    """When the log took each cluster's heartbeats."""

    def __init__(self, history: History) -> None:
        self._at: dict[str, list[int]] = defaultdict(list)
        for append in history.appends:
            if append.topic == OBJECTS.name and append.value is not None:
                cluster = heartbeat_cluster(append.key or b"")
                if cluster is not None:
                    self._at[cluster].append(append.at_ms)

    def silent_ms(self, cluster: str, at_ms: int) -> int:
        """For how long there was none before a moment; since ever where there was none."""
        beats = self._at[cluster]
        index = bisect_right(beats, at_ms)
        return at_ms - beats[index - 1] if index else at_ms


def check(evidence: Evidence) -> Iterator[Violation]:
    evidence.take()
    beats: _Beats = defaultdict(list)
    well: _Beats = defaultdict(list)
    heard: _Heard = defaultdict(list)
    end = 0
    for append in evidence.history.appends:
        end = append.at_ms
        if append.topic == OBJECTS.name and append.value is not None:
            cluster = heartbeat_cluster(append.key or b"")
            if cluster is not None:
                beats[cluster].append(append.at_ms)
                observed = decode(ClusterObserved, append.value)
                if observed.ready or observed.reason != UNREACHABLE:
                    well[cluster].append(append.at_ms)
                    heard[cluster].append((append.partition, append.offset, append.at_ms))
    yield from _haste(evidence, heard)
    yield from _moves(evidence, beats)
    # Every silence is looked at when it must have been told, if the status service was well until then.
    late = [
        (before + _SILENT_MS + _TOLD_MS, cluster)
        for cluster, times in beats.items()
        for before, after in zip(times, [*times[1:], end], strict=True)
        if after - before > _SILENT_MS + _TOLD_MS
    ]
    yield from _claims(evidence, [moment for moment in sorted(late) if _was_well(evidence, moment[0])])


def _was_well(evidence: Evidence, at_ms: int) -> bool:
    """Whether nothing had befallen the status service, its store or its log since the last heartbeat, and before."""
    since = at_ms - 2 * (_SILENT_MS + _TOLD_MS)
    return not any(
        life.process.partition("#")[0] in {"status", ""} and since <= life.at_ms <= at_ms
        for life in evidence.history.lives
    )


def _claims(evidence: Evidence, moments: list[tuple[int, str]]) -> Iterator[Violation]:
    latest: dict[str, WorkloadStatus] = {}
    appends = iter(evidence.history.appends)
    append = next(appends, None)
    for at_ms, cluster in moments:
        while append is not None and append.at_ms <= at_ms:
            if append.topic == STATUS.name:
                key = (append.key or b"").decode()
                if append.value is None:
                    latest.pop(key, None)
                else:
                    latest[key] = decode(WorkloadStatus, append.value)
            append = next(appends, None)
        for key, status in latest.items():
            for part in status.clusters:
                if part.cluster == cluster and part.counts.ready and not part.stale:
                    silent_s = (_SILENT_MS + _TOLD_MS) // 1000
                    message = f"{part.counts.ready} replicas count as ready in {cluster}, silent for {silent_s} s"
                    yield Violation("silent and well", key, message)


def unasked(evidence: Evidence) -> Iterator[tuple[int, int, WorkloadPlaced, PodSetPlacement, PodSetPlacement]]:
    """What becomes of a pod set by a decision that nobody asked for: when, its offset, the decision, before and after.

    Not of what runs at most once, of which `once` says in which order it moves.
    """
    journal = evidence.journal
    times = {append.offset: append.at_ms for append in evidence.history.appends if append.topic == DECISIONS.name}
    former: dict[str, WorkloadPlaced] = {}
    for (offset, key), placed in journal.decided.items():
        before = former.get(key)
        former[key] = placed
        if before is None or before.uid != placed.uid or before.request != placed.request:
            continue
        if placed.workload.placement.at_most_once:
            continue
        for had, has in zip(before.pod_sets, placed.pod_sets, strict=False):
            yield times[offset], offset, placed, had, has


def _haste(evidence: Evidence, well: _Heard) -> Iterator[Violation]:
    """Nothing begins to leave a cluster that was heard, and well, a short time ago, as far as the leader had read.

    But for what returns to another cluster, and what moves to a better place: these leave clusters that are well.
    """
    for at_ms, offset, decision, before, after in unasked(evidence):
        key, move = str(decision.workload.key), after.rebalanced
        had = {share.cluster: share.leaving or 0 for share in before.shares}
        for share in after.shares:
            if after.returning or (move is not None and (move.state, move.from_cluster) == ("moving", share.cluster)):
                continue
            silent_ms = at_ms - _last(well[share.cluster], evidence.journal.consumed[offset])
            if (share.leaving or 0) > had.get(share.cluster, 0) and silent_ms < _HASTY_MS:
                yield Violation("left in haste", key, f"{share.cluster}, which was well {silent_ms} ms ago, is left")


def _last(beats: list[tuple[int, int, int]], consumed: Positions) -> int:
    """When the newest heartbeat was written of those that a leader had read; 0 if there is none."""
    upto = consumed.get(OBJECTS.name, {})
    return next((at_ms for partition, offset, at_ms in reversed(beats) if offset < upto.get(partition, 0)), 0)


def _moves(evidence: Evidence, beats: _Beats) -> Iterator[Violation]:
    """Nobody asked for it, and nothing new can be known of the cluster: what is taken away there is ready elsewhere.

    Of the replicas that leave as many stay as others, where anything can be known, are not ready.
    """
    ready = Ready(evidence)
    for at_ms, _, decision, before, after in unasked(evidence):
        key = str(decision.workload.key)
        had, has = ({share.cluster: share.replicas for share in item.shares} for item in (before, after))
        silent = {
            name: silent_ms
            for name in {*had, *has}
            if (silent_ms := at_ms - max((at for at in beats[name] if at <= at_ms), default=0)) > _DEAF_MS
        }
        unready = sum(
            max(share.kept - ready.most(key, after.name, share.cluster, at_ms), 0)
            for share in after.shares
            if share.cluster not in silent
        )
        for cluster in sorted(had.keys() & silent.keys()):
            if has.get(cluster, 0) < had[cluster] and after.leaving < unready:
                message = (
                    f"{had[cluster]} replicas in {cluster} become {has.get(cluster, 0)}, silent for "
                    f"{silent[cluster]} ms, while {unready} are not ready elsewhere and {after.leaving} stay for them"
                )
                yield Violation("moved in silence", key, message)


class Ready:
    """How many pods of a pod set were ready in a cluster, at any time."""

    def __init__(self, evidence: Evidence) -> None:
        self._counts: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
        pods: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        for write in evidence.history.writes:
            meta = write.object["metadata"]
            if write.resource == "pods" and (key := workload_of(write.object)):
                place = (key, (meta.get("labels") or {}).get(POD_SET_LABEL, ""), write.cluster)
                done = write.object.get("status", {}).get("phase") == "Succeeded"
                is_there = write.verb != "DELETED" and (done or (is_alive(write.object) and is_ready(write.object)))
                (pods[place].add if is_there else pods[place].discard)(meta["uid"])
                self._counts[place].append((write.at_ms, len(pods[place])))

    def most(self, key: str, pod_set: str, cluster: str, at_ms: int) -> int:
        """The most that were ready at once, as far back as somebody may know of it."""
        counts = self._counts[key, pod_set, cluster]
        end = bisect_right(counts, at_ms, key=lambda item: item[0])
        begin = bisect_right(counts, at_ms - _SEEN_MS, key=lambda item: item[0])
        return max((count for _, count in counts[max(begin - 1, 0) : end]), default=0)
