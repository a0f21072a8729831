"""Which commands an executor does not hold, of those that were decided and published long enough ago."""

from __future__ import annotations

import pytest

from services.scheduler.decision.seen.inventory import GRACE_MS, HeldCommands
from shared.events.v1.inventories import HeldSubject, InventoryReported
from shared.events.v1.placements import PlacementPublished
from tests.unit.status.world import placement, refusal

NOW = 1_700_000_000_000
KEY = "shop/cart"


def asked(generation: int = 5, *, age_ms: int = GRACE_MS + 20, **arguments: object) -> PlacementPublished:
    arguments = {"shares": {"east": 1}} | arguments
    return placement(generation=generation, at_ms=NOW - age_ms + 10, **arguments)  # type: ignore[arg-type]


def missing(item: PlacementPublished, *held: HeldSubject, before: int = 100) -> list[str]:
    inventory = InventoryReported(cluster="east", reported_at=NOW, interval_ms=1, digest="", subjects=held)
    return list(HeldCommands(inventory).missing([(KEY, item)], before))


def subject(generation: int, *, commanded: bool = True) -> HeldSubject:
    return HeldSubject(subject=f"workload/{KEY}", generation=generation, commanded=commanded, objects=1)


@pytest.mark.parametrize(
    ("held", "is_missing"),
    [
        ((), True),
        ((subject(4),), True),
        ((subject(5, commanded=False),), True),
        ((subject(5),), False),
        ((subject(6),), False),
        ((HeldSubject(subject="workload/shop/other", generation=9),), True),
    ],
)
def test_what_is_not_held_or_older_is_missing(held: tuple[HeldSubject, ...], *, is_missing: bool) -> None:
    assert missing(asked(), *held) == ([KEY] if is_missing else [])


def test_a_withdrawal_is_a_command_too() -> None:
    assert missing(asked(shares={}, withdrawn=("east",), deleting=True)) == [KEY]


def test_what_others_should_run_is_not_missed_here() -> None:
    assert not missing(asked(shares={"west": 1}))
    assert not missing(refusal())


def test_what_may_be_on_its_way_is_not_missed() -> None:
    assert not missing(asked(age_ms=GRACE_MS - 1000)), "decided a moment ago"
    assert not missing(asked(), before=5), "not published yet"


def carried_out(
    *held: HeldSubject, published: dict[str, PlacementPublished] | None = None, before: int = 9
) -> list[str]:
    inventory = InventoryReported(cluster="east", reported_at=NOW, interval_ms=1, digest="", subjects=held)
    return list(HeldCommands(inventory).carried_out(published or {}, before))


def test_a_withdrawal_that_is_carried_out_and_asked_no_more_is_to_be_buried() -> None:
    withdrawal = subject(5).model_copy(update={"outcome": "withdrawn", "objects": 0})
    assert carried_out(withdrawal) == [KEY]
    assert carried_out(withdrawal, published={KEY: asked(8, shares={"west": 1})}) == [KEY], "it is elsewhere now"
    assert not carried_out(withdrawal, published={KEY: asked(5, shares={}, withdrawn=("east",))}), "not decided yet"
    assert not carried_out(withdrawal, before=5), "what it came from may not have been read yet"
    assert not carried_out(withdrawal.model_copy(update={"subject": "nodes/blue"})), "another writer's"
    for outcome in ("", "failed", "applied"):
        assert not carried_out(withdrawal.model_copy(update={"outcome": outcome}))
