"""How many nodes more: `argmax_k Σ r_i · u_i(k)` over the sizes of all node groups of all clusters together.

What there is and what is on its way comes first: only for pods that find no place there are groups to grow. Where the
search begins says `packing`, where it ends `searching`, and whether pods fit the scheduler's own code (`trial`), with
all pods anew on the fleet as it would be. All that arrived together is planned together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from services.autoscaler.decision.nodes.bounding import Limit
from services.autoscaler.decision.nodes.judging import Lack, Sizing
from services.autoscaler.decision.nodes.packing import pack
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.searching import Candidate, Search, Sizes
from services.autoscaler.decision.nodes.seen import GroupKey, Seen
from services.autoscaler.decision.nodes.stock import Stock

# How often what found no place after all is packed again.
_REPAIRS = 8


class Term(NamedTuple):
    """Of a utility its weight, and its values for the size that was chosen and for the runner-up."""

    weight: float
    value: float
    beside: float


@dataclass(frozen=True, slots=True)
class SizeChoice:
    """Why a group gets this size. The runner-up is the best other size of this group that was tried with the others as
    they are; `unplaced_beside` pods that have a place would find none then, as an explanation of the constraint that
    comes before all terms. Without a runner-up there is nothing `beside`.
    """

    group: GroupKey
    before: int
    size: int
    value: float
    terms: dict[str, Term]
    runner_up: int | None = None
    value_beside: float = 0.0
    unplaced_beside: int = 0


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Pods that go on waiting, and why no node is made for them."""

    pod_set: str
    count: int
    lack: Lack

    @property
    def reason(self) -> str:
        """In a sentence."""
        return self.lack.text


@dataclass(frozen=True, slots=True)
class Growth:
    """`choices` of the groups that grow, in the order of the groups. `added_price` is an hour's, and `least_price` as
    of `judging.Sizing`; `proven` says that no other sizes of use are worth more, which are those with no more nodes of
    a group than pods that could have one each; `trials` is how many candidates were tried. `limits` are those that keep
    nodes from what has no place.
    """

    choices: tuple[SizeChoice, ...]
    unplaced: tuple[Unplaced, ...]
    added_price: float
    least_price: float
    head_room: float
    proven: bool
    trials: int
    limits: tuple[Limit, ...] = ()

    @property
    def sizes(self) -> dict[GroupKey, int]:
        """Of the groups that grow, from now on."""
        return {choice.group: choice.size for choice in self.choices}


def grow(seen: Seen, policy: Policy, config: SchedulerConfig, stock: Stock, now_ms: int) -> Growth:
    """Deterministic: equal arguments give an equal plan."""
    sizing = Sizing(seen, policy, config, stock, now_ms)
    pods = sum(item.count for item in (*seen.pending, *seen.head_room))
    work = max(1, pods + len(seen.nodes))
    search = Search(sizing, sizing.room, max(1, min(policy.most_trials, policy.most_work // work)))
    best = search.try_out((0,) * len(seen.groups))
    if sizing.room.any() and not sizing.satisfied(best):
        best = _begin(sizing, search, best)
        best = search.best_from(best)
    else:
        search.proven = True
    return _plan(seen, policy, sizing, search, best)


def _begin(sizing: Sizing, search: Search, nothing: Candidate) -> Candidate:
    """Packed, tried, and what found no place packed again."""
    best, sizes = nothing, np.array(nothing.sizes)
    for _ in range(_REPAIRS):
        counts = sizing.left(tuple(sizes.tolist()))
        more = pack(sizing.kinds(sizes), counts) if counts.any() else np.zeros_like(sizes)
        if not more.any():
            break
        sizes = sizing.within_limits(sizes + more)
        found = search.try_out(tuple(sizes.tolist()))
        if not found.is_better(best):
            break
        best = found
        if sizing.satisfied(found):
            break
    used = sizing.used(best.sizes)
    return search.try_out(used) if used != best.sizes and search.try_out(used).is_better(best) else best


def _plan(seen: Seen, policy: Policy, sizing: Sizing, search: Search, best: Candidate) -> Growth:
    choices = tuple(_choice(seen, policy, search, best, number) for number, count in enumerate(best.sizes) if count)
    unplaced = tuple(
        Unplaced(pod_set.key, count, sizing.lack(pod_set, best.sizes))
        for pod_set, count in zip(seen.pending, sizing.unplaced(best.sizes), strict=True)
        if count
    )
    return Growth(
        choices=choices,
        unplaced=unplaced,
        added_price=sizing.added_price(best.sizes),
        least_price=sizing.least_price,
        head_room=best.utilities["head_room"],
        proven=search.proven,
        trials=len(search.tried),
        limits=tuple(sizing.reached(best.sizes)),
    )


def _choice(seen: Seen, policy: Policy, search: Search, best: Candidate, number: int) -> SizeChoice:
    group, beside = seen.groups[number], _runner_up(search, best, number)
    weights = policy.rewards
    terms = {
        name: Term(getattr(weights, name), value, beside.utilities[name] if beside is not None else 0.0)
        for name, value in best.utilities.items()
    }
    return SizeChoice(
        group=group.key,
        before=group.size,
        size=group.size + best.sizes[number],
        value=best.value,
        terms=terms,
        runner_up=group.size + beside.sizes[number] if beside is not None else None,
        value_beside=beside.value if beside is not None else 0.0,
        unplaced_beside=sum(best.placed[:-1]) - sum(beside.placed[:-1]) if beside is not None else 0,
    )


def _runner_up(search: Search, best: Candidate, number: int) -> Candidate | None:
    """The best of those that were tried and differ in this group alone; one node less is tried if none was."""

    def differs(sizes: Sizes) -> bool:
        return sizes[:number] == best.sizes[:number] and sizes[number + 1 :] == best.sizes[number + 1 :]

    others = [item for sizes, item in search.tried.items() if sizes != best.sizes and differs(sizes)]
    if not others:
        if search.spent:
            return None
        less = (*best.sizes[:number], best.sizes[number] - 1, *best.sizes[number + 1 :])
        others = [search.try_out(less)]
    found = others[0]
    for item in others[1:]:
        if item.is_better(found):
            found = item
    return found
