"""Which nodes of a share hold room is a function of the share and of the pods seen, whatever came first."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.seen.reservations import ShareKey, ShareReservations
from services.scheduler.decision.seen.slots import NodeSlots
from services.scheduler.decision.table.neighbours import Neighbours
from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.requests import Requests

NODES = st.sampled_from("abcd")
# A pod comes to a node, or the oldest pod of a node goes, or the share becomes another.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("seen"), NODES),
        st.tuples(st.just("gone"), NODES),
        st.tuples(st.just("share"), st.lists(NODES, max_size=6)),
    ),
    max_size=25,
)


def expected(share: list[str], seen: Counter[str], *, bound: bool) -> list[int]:
    """The rules of the module, anew."""
    unmatched = set(range(len(share)))
    for node, count in seen.items():
        positions = [index for index, name in enumerate(share) if name == node]
        unmatched -= set(positions[max(0, len(positions) - count) :])
    return sorted(unmatched) if bound else sorted(unmatched)[: max(0, len(share) - seen.total())]


@given(STEPS, st.booleans())
def test_incremental_is_as_computed_anew(steps: list[tuple[str, str | list[str]]], bound: bool) -> None:
    table = NodeTable("nvidia.com/gpu")
    slots = NodeSlots(table, Neighbours(table))
    request = Requests(table.columns).intern((("cpu", 1), ("pods", 1)))
    reservations = ShareReservations(ShareKey("default/shop", "web", "east"), slots)
    share: list[str] = []
    seen: Counter[str] = Counter()
    for kind, value in steps:
        if kind == "share":
            share = list(value)
            reservations.set_share([slots.ensure("east", node) for node in share], request, bound=bound)
        elif kind == "seen":
            seen[str(value)] += 1
            slot = slots.ensure("east", str(value))
            slots.use(slot)
            hold = reservations.pod_seen(slot)
            if hold is not None:
                slots.release(hold)
        elif seen[str(value)]:
            seen[str(value)] -= 1
            slot = slots.ensure("east", str(value))
            reservations.pod_gone(slot)
            slots.leave(slot)
        seen = +seen
        held = [index for index in range(len(share)) if reservations.hold_at(index) is not None]
        assert held == expected(share, seen, bound=bound)
        # What the slots hold is what the share says, no more.
        assert Counter(slot.name for slot in slots for _ in slot.holds) == Counter(share[index] for index in held)
