"""A cluster whose watcher is silent is neither healthy nor empty: what it runs does not count as ready, and stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from shared.events.registry import decode
from shared.events.topics import DECISIONS, OBJECTS, STATUS
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.status import WorkloadStatus
from shared.model.identities import heartbeat_cluster
from tests.simulation.checker.evidence import Evidence, Violation

_Beats = dict[str, list[int]]
# Three intervals of 5 s without a heartbeat are silence; that it is noticed and told takes some more.
_SILENT_MS = 15_000
_TOLD_MS = 10_000
# After so long without a heartbeat nothing new can be known of a cluster.
_DEAF_MS = 14_000


def check(evidence: Evidence) -> Iterator[Violation]:
    evidence.take()
    beats: _Beats = defaultdict(list)
    end = 0
    for append in evidence.history.appends:
        end = append.at_ms
        if append.topic == OBJECTS.name and append.value is not None:
            cluster = heartbeat_cluster(append.key or b"")
            if cluster is not None:
                beats[cluster].append(append.at_ms)
    yield from _moves(evidence, beats)
    # Every silence is looked at when it must have been told, if the status service was well until then.
    late = [
        (before + _SILENT_MS + _TOLD_MS, cluster)
        for cluster, times in beats.items()
        for before, after in zip(times, [*times[1:], end], strict=True)
        if after - before > _SILENT_MS + _TOLD_MS
    ]
    well = [moment for moment in sorted(late) if _was_well(evidence, moment[0])]
    yield from _claims(evidence, well)


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


def _moves(evidence: Evidence, beats: _Beats) -> Iterator[Violation]:
    """Nobody asked for it, and nothing new can be known of the cluster: then nothing is taken away from it."""
    journal = evidence.journal
    times = {append.offset: append.at_ms for append in evidence.history.appends if append.topic == DECISIONS.name}
    former: dict[str, WorkloadPlaced] = {}
    for (offset, key), placed in journal.decided.items():
        before = former.get(key)
        former[key] = placed
        if before is None or before.uid != placed.uid or before.request != placed.request:
            continue
        had, has = _shares(before), _shares(placed)
        for cluster in had:
            silent_ms = times[offset] - max((at for at in beats[cluster] if at <= times[offset]), default=0)
            if has.get(cluster, 0) < had[cluster] and silent_ms > _DEAF_MS:
                message = (
                    f"{had[cluster]} replicas in {cluster} become {has.get(cluster, 0)}, silent for {silent_ms} ms"
                )
                yield Violation("moved in silence", key, message)


def _shares(placed: WorkloadPlaced) -> dict[str, int]:
    shares: dict[str, int] = defaultdict(int)
    for pod_set in placed.pod_sets:
        for share in pod_set.shares:
            shares[share.cluster] += share.replicas
    return shares
