"""A replica moves to a better place where it is asked for, for a gain, alone, rested, at the pace, and not in doubt."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator

from shared.events.registry import decode
from shared.events.topics import OBJECTS
from shared.events.v1.decisions import PodSetPlacement, Rebalanced, WorkloadPlaced
from shared.events.v1.objects import ClusterObserved
from shared.model.identities import heartbeat_cluster
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.checker.silence import unasked

# A cluster without a heartbeat for 9 s is silent; one that is on its way for so long is unknown to a leader.
_DOUBT_MS = 9_000 + 8_000
_MINUTE_MS = 60_000
# A new leader begins with one move, whatever its predecessor did; and so may one whose clock jumps.
_MORE = 3


def check(evidence: Evidence) -> Iterator[Violation]:
    evidence.take()
    well: dict[str, list[int]] = defaultdict(list)
    for append in evidence.history.appends:
        if append.topic == OBJECTS.name and append.value is not None:
            cluster = heartbeat_cluster(append.key or b"")
            if cluster is not None and decode(ClusterObserved, append.value).ready:
                well[cluster].append(append.at_ms)
    begun: list[int] = []
    for at_ms, _, decision, before, after in unasked(evidence):
        move = after.rebalanced
        if move is None or not begins(before, after):
            continue
        key = str(decision.workload.key)
        begun.append(at_ms)
        yield from _wrong(key, decision, before, move)
        for cluster in (move.from_cluster, move.cluster):
            heard = bisect_right(well[cluster], at_ms)
            silent_ms = at_ms - well[cluster][heard - 1] if heard else at_ms
            if silent_ms > _DOUBT_MS:
                message = f"from {move.from_cluster} to {move.cluster}, and {cluster} was not well for {silent_ms} ms"
                yield Violation("moved in doubt", key, message)
    yield from _pace(evidence, begun)
    yield from _rest(evidence)


def begins(before: PodSetPlacement, after: PodSetPlacement) -> bool:
    """Whether a move to a better place begins with this decision."""
    move, last = after.rebalanced, before.rebalanced
    return (
        move is not None and move.state == "moving" and (last is None or (last.at, last.state) != (move.at, "moving"))
    )


def _wrong(key: str, decision: WorkloadPlaced, before: PodSetPlacement, move: Rebalanced) -> Iterator[Violation]:
    terms = decision.workload.placement.rebalance
    if terms is None or (not move.by_terms and move.gain <= terms.minimum_gain):
        wanted = terms.minimum_gain if terms is not None else None
        yield Violation("moved for nothing", key, f"gains {move.gain}, and wanted is {wanted}")
    if sum(item.leaving for item in decision.pod_sets) > 1 or before.leaving:
        yield Violation("two at once", key, f"{before.leaving} were leaving when one more began to")


def _pace(evidence: Evidence, begun: list[int]) -> Iterator[Violation]:
    most = evidence.rebalances_per_minute + _MORE
    for number, at_ms in enumerate(begun):
        count = bisect_right(begun, at_ms + _MINUTE_MS) - number
        if count > most:
            yield Violation("over budget", "the fleet", f"{count} replicas moved in a minute, from {at_ms} on")
            return


def _rest(evidence: Evidence) -> Iterator[Violation]:
    """Where one of a pod set came, none leaves for a better place before the cooldown is over; nor does one go back to
    where the last came from. By the leaders' own times, which decisions say: so a clock that jumps is no excuse.
    """
    known: dict[tuple[str, str], dict[int, Rebalanced]] = defaultdict(dict)
    for (offset, key), decision in evidence.journal.decided.items():
        terms = decision.workload.placement.rebalance
        cooldown_ms = terms.cooldown_seconds * 1_000 if terms is not None else 0
        for item in decision.pod_sets:
            moves, move = known[decision.uid, item.name], item.rebalanced
            if move is None:
                moves.clear()
                continue
            if move.at not in moves:
                recent = [each for each in moves.values() if move.at - each.at < cooldown_ms and each.state != "failed"]
                came = [each for each in recent if each.cluster == move.from_cluster]
                back = recent and recent[-1] is [*moves.values()][-1] and recent[-1].from_cluster == move.cluster
                if came or back:
                    message = f"{item.name} from {move.from_cluster} to {move.cluster} at {offset}, after {recent[-1]}"
                    yield Violation("no rest", key, message)
            moves[move.at] = move
