"""Evacuation, leases, flapping and spread, as a history of real clusters shows them. Pure.

The rules are the simulation's where these ask nothing of moments that a real history does not know exactly. Here they
are asked with as much doubt as a watch leaves:

- a pod is there from `TOLERANCE_MS` after it was heard of until its deletion was; or, where the watch was broken then,
  until it broke. Both are heard of in one process, so what delays that delays both;
- what was ready within the last half minute, or `_LATE_MS` later, counts as ready.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from shared.events.topics import DECISIONS
from shared.events.v1.decisions import PodSetPlacement, RequestRef, WorkloadPlaced
from tests.chaos.journalist import SERVES
from tests.chaos.kinds import SPREAD, kind_of
from tests.chaos.outages import outages
from tests.simulation.checker import Evidence, Violation, once
from tests.simulation.checker.silence import Heartbeats, Ready, unasked
from tests.simulation.history import History, Lived, Written

Json = dict[str, Any]
# By more than so much two clusters' pods of one workload have to overlap to be a violation.
TOLERANCE_MS: Final = 1_500
# So late our own watch may tell what the fleet's watcher told already.
_LATE_MS: Final = 10_000
# A watch that broke has caught up so long after its server serves again.
_CAUGHT_UP_MS: Final = 15_000
# What began before a cluster flapped, or was on its way, is not the flapping's.
_BEFORE_MS: Final = 5_000
# Without a heartbeat for so long, a cluster may be silent for a leader.
_SILENT_MS: Final = 7_000
FLAPS, STEADY = "flaps", "steady"
# Why a cluster with its agents is cut off.
SILENT: Final = "silent"
_ENDED: Final = frozenset({"Succeeded", "Failed"})


def check(evidence: Evidence) -> Iterator[Violation]:
    evidence.take()
    yield from at_most_once(evidence)
    yield from removed(evidence)
    yield from flapped(evidence)
    yield from skewed(evidence)


# --- at most once ---


def at_most_once(evidence: Evidence) -> Iterator[Violation]:
    """The simulation's rule, over pods that were there at the least, and with names as the simulation has them."""
    history = evidence.history
    writes = sorted(
        [*_nodes(history.writes), *_pods(history)], key=lambda write: (write.at_ms, write.verb != "DELETED")
    )
    lives = [*map(_as_simulated, history.lives)]
    yield from once.check(replace(evidence, history=History(appends=history.appends, writes=writes, lives=lives)))


def _nodes(writes: Sequence[Written]) -> Iterator[Written]:
    return (write for write in writes if write.resource == "nodes")


def _pods(history: History) -> Iterator[Written]:
    """Of each pod one write for its beginning and one for its end; none of one that may not have been there."""
    broken = outages(history.lives, _CAUGHT_UP_MS)
    begun: dict[str, Written] = {}
    for write in history.writes:
        if write.resource != "pods":
            continue
        uid = write.object["metadata"]["uid"]
        begun.setdefault(uid, replace(write, verb="ADDED", at_ms=write.at_ms + TOLERANCE_MS))
        if write.verb == "DELETED" or write.object["status"].get("phase") in _ENDED:
            first = begun[uid]
            ended = replace(write, verb="DELETED", at_ms=_gone_from(write.at_ms, broken.get(write.cluster, ())))
            if first.verb == "ADDED" and ended.at_ms > first.at_ms:
                yield replace(first, object=write.object)
                yield ended
            begun[uid] = ended
    yield from (write for write in begun.values() if write.verb == "ADDED")


def _gone_from(at_ms: int, broken: Sequence[tuple[int, int]]) -> int:
    return min([at_ms, *(begin for begin, end in broken if begin <= at_ms <= end)])


def _as_simulated(life: Lived) -> Lived:
    """The executor of several clusters by the simulation's name; a cluster whose executor cannot reach it."""
    name, slash, _ = life.process.partition("/")
    if slash:
        return replace(life, process=name, event="befallen", detail="api")
    if name.startswith("executor") and life.event == "cut off":
        _, _, peer = life.detail.partition(f": {name}/")
        return replace(life, process=peer.partition(",")[0], event="befallen", detail="api")
    return replace(life, process="executor-all") if name == "executor" else life


# --- evacuation ---


def removed(evidence: Evidence) -> Iterator[Violation]:
    """Nobody asked for it: of what leaves clusters as many stay as others are not ready, wherever these are."""
    ready = Ready(evidence)
    for at_ms, _, decision, before, after in unasked(evidence):
        key = str(decision.workload.key)
        unready = sum(
            max(share.kept - ready.most(key, after.name, share.cluster, at_ms + _LATE_MS), 0) for share in after.shares
        )
        stay = after.leaving + taken_back(before, after)
        if stay < min(before.leaving, unready):
            message = f"{before.leaving} were leaving, {stay} stay, and {unready} others are not ready at {at_ms}"
            yield Violation("removed early", key, message)


def taken_back(before: PodSetPlacement, after: PodSetPlacement) -> int:
    """How many of those that were leaving stay for good: on their nodes, if these are known; else by their number."""
    had = {share.cluster: share for share in before.shares}
    count = 0
    for share in after.shares:
        then = had.get(share.cluster)
        if then is None or not then.leaving:
            continue
        left = then.leaving - (share.leaving or 0)
        if share.nodes:
            again = Counter(then.nodes[then.kept :]) & (
                Counter(share.nodes[: share.kept]) - Counter(then.nodes[: then.kept])
            )
            count += max(min(left, again.total()), 0)
        else:
            count += max(min(left, share.kept - then.kept), 0)
    return count


def begins_to_leave(before: PodSetPlacement, after: PodSetPlacement) -> Iterator[str]:
    """The clusters that replicas begin to leave, though they neither return nor move to a better place."""
    had, move = {share.cluster: share.leaving or 0 for share in before.shares}, after.rebalanced
    for share in after.shares:
        moves = move is not None and (move.state, move.from_cluster) == ("moving", share.cluster)
        if (share.leaving or 0) > had.get(share.cluster, 0) and not after.returning and not moves:
            yield share.cluster


def flapped(evidence: Evidence) -> Iterator[Violation]:
    """While a cluster goes on and off, each time for less than is waited for, nothing begins to leave it.

    Unless it was not heard even so: what is on for some seconds may be too short for connections to come back.
    """
    beats = Heartbeats(evidence.history)
    begun: dict[str, int] = {}
    periods: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for life in evidence.history.lives:
        if life.event == FLAPS:
            begun[life.process] = life.at_ms
        elif life.event == STEADY and life.process in begun:
            periods[life.process].append((begun.pop(life.process) + _BEFORE_MS, life.at_ms))
    for at_ms, _, decision, before, after in unasked(evidence):
        for cluster in begins_to_leave(before, after):
            flaps = any(begin <= at_ms <= end for begin, end in periods[cluster])
            if flaps and beats.silent_ms(cluster, at_ms) < _SILENT_MS:
                message = f"{after.name} begins to leave {cluster}, which only flaps, at {at_ms}"
                yield Violation("left in haste", str(decision.workload.key), message)


def away(evidence: Evidence) -> Iterator[Violation]:
    """At the end, when all clusters are well: what had to leave has returned, if it was asked to."""
    evidence.take()
    for key, (_, decision) in evidence.journal.latest.items():
        for item in decision.pod_sets:
            if item.away or item.leaving:
                message = f"{item.name}: {item.leaving} are leaving, away are {dict(item.away)}"
                yield Violation("not returned", key, message)


# --- spread ---


def skewed(evidence: Evidence) -> Iterator[Violation]:
    """What is to be spread over nodes is, within each cluster, when it is placed for the first time.

    Later it need not be: what is placed is not moved when others go.
    """
    nodes: dict[str, set[str]] = defaultdict(set)
    for write in _nodes(evidence.history.writes):
        nodes[write.cluster].add(write.object["metadata"]["name"])
    for key, decision in _first(evidence).items():
        for item in decision.pod_sets if kind_of(key) == SPREAD else ():
            for share in item.shares:
                counts = Counter(dict.fromkeys(nodes[share.cluster], 0))
                counts.update(share.nodes)
                if counts and max(counts.values()) - min(counts.values()) > 1:
                    yield Violation("skewed", key, f"{dict(counts)} in {share.cluster}")


def _first(evidence: Evidence) -> Mapping[str, WorkloadPlaced]:
    """Of each workload that was all placed before it was asked for anything else, that decision."""
    asked: dict[str, RequestRef] = {}
    found: dict[str, WorkloadPlaced] = {}
    for (_, key), decision in evidence.journal.decided.items():
        is_first = asked.setdefault(key, decision.request) == decision.request
        if is_first and all(item.placed == item.desired for item in decision.pod_sets):
            found.setdefault(key, decision)
    return found


# --- what there was to judge ---


def counts(evidence: Evidence) -> dict[str, int]:
    """How often each policy had something to do: a rule that judged nothing found nothing."""
    evidence.take()
    evacuated = returned = rebalanced = 0
    for _, _, _, before, after in unasked(evidence):
        evacuated += bool([*begins_to_leave(before, after)])
        returned += bool(after.returning) and not before.returning
        move, last = after.rebalanced, before.rebalanced
        rebalanced += move is not None and (last is None or last.at != move.at)
    decided = evidence.journal.decided.values()
    reclaimed = {(item.name, each) for d in decided for item in d.pod_sets for each in item.preempted if each.queue}
    gangs = {key for (_, key), d in evidence.journal.decided.items() if any(item.started for item in d.pod_sets)}
    moved, fenced = _moved_once(evidence)
    return {
        "evacuations": evacuated,
        "returns": returned,
        "rebalanced": rebalanced,
        "reclaimed": len(reclaimed),
        "gangs": len(gangs),
        "once_moved": moved,
        "lease_moved": fenced,
    }


def _moved_once(evidence: Evidence) -> tuple[int, int]:
    """How often what runs at most once changed its cluster, and how often that was cut off then."""
    times = {append.offset: append.at_ms for append in evidence.history.appends if append.topic == DECISIONS.name}
    silent, begun = defaultdict(list), {}
    for life in evidence.history.lives:
        if (life.event, life.detail) == ("cut off", SILENT):
            begun[life.process] = life.at_ms
        elif life.event == SERVES and life.process in begun:
            silent[life.process].append((begun.pop(life.process), life.at_ms))
    homes: dict[str, set[str]] = {}
    moved = fenced = 0
    for (offset, key), decision in evidence.journal.decided.items():
        if decision.workload.placement.at_most_once and decision.clusters:
            left = homes.get(key, decision.clusters) - decision.clusters
            moved += bool(left)
            fenced += any(begin <= times[offset] <= end for name in left for begin, end in silent[name])
            homes[key] = decision.clusters
    return moved, fenced
