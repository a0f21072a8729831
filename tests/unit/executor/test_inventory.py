"""What the executor says that it holds: commands as they stand, and objects that lost theirs."""

from __future__ import annotations

from services.executor.decision.backoff import CallFailed
from services.executor.decision.instructions import Apply
from services.executor.decision.inventory import take_inventory
from services.executor.decision.state import State
from services.executor.inventories import REPEAT, InventoryTaker
from shared.events.v1.inventories import HeldSubject, InventoryReported
from shared.model.digests import digest_of
from shared.testing.clock import FakeClock
from tests.unit.executor.builders import SUBJECT, command, config_map, deployment, withdrawal
from tests.unit.executor.model import Rig

AT_MS = 1_700_000_000_000


def held(rig: Rig) -> dict[str, HeldSubject]:
    inventory = rig.reconciler.inventory(AT_MS, 60_000)
    assert inventory is not None
    assert (inventory.cluster, inventory.reported_at, inventory.interval_ms) == ("east", AT_MS, 60_000)
    states = {item.subject: f"{item.generation}/{item.digest}/{item.outcome}" for item in inventory.subjects}
    assert inventory.digest == digest_of(states).text
    return {item.subject: item for item in inventory.subjects}


def test_what_was_applied_is_held_with_its_generation() -> None:
    rig = Rig()
    issued = command(7, deployment(), config_map(a="1"))
    rig.issue(issued)
    rig.settle()
    assert held(rig) == {
        SUBJECT: HeldSubject(subject=SUBJECT, generation=7, digest=issued.digest, outcome="applied", objects=2)
    }


def test_an_outcome_is_of_the_command_that_is_held() -> None:
    rig = Rig()
    rig.issue(command(7, deployment()))
    rig.settle()
    rig.cluster.fault = lambda call: CallFailed(500, "InternalError", "no") if isinstance(call, Apply) else None
    rig.issue(command(8, deployment(image="nginx:2")))
    item = held(rig)[SUBJECT]
    assert (item.generation, item.outcome) == (8, ""), "nothing was said of the new one yet"
    rig.settle()
    assert (held(rig)[SUBJECT].generation, held(rig)[SUBJECT].outcome) == (8, "failed")


def test_objects_without_a_command_are_left_over_and_left_alone() -> None:
    rig = Rig()
    rig.issue(command(7, deployment()))
    rig.settle()
    rig.tombstone(SUBJECT)
    rig.settle()
    assert held(rig) == {SUBJECT: HeldSubject(subject=SUBJECT, generation=7, commanded=False, objects=1)}
    assert rig.cluster.objects, "absence of a command means nothing"

    rig.issue(command(9, deployment()))
    rig.settle()
    assert (held(rig)[SUBJECT].commanded, held(rig)[SUBJECT].generation) == (True, 9)


def test_what_was_withdrawn_is_held_until_it_is_forgotten() -> None:
    rig = Rig()
    rig.issue(command(7, deployment()))
    rig.settle()
    rig.issue(withdrawal(8))
    rig.settle()
    item = held(rig)[SUBJECT]
    assert (item.generation, item.outcome, item.objects) == (8, "withdrawn", 0)
    rig.tombstone(SUBJECT)
    rig.settle()
    assert not held(rig)


def test_nothing_is_said_before_everything_is_known() -> None:
    state = State("east")
    assert take_inventory(state, AT_MS, 1) is None
    state.caught_up = True
    assert take_inventory(state, AT_MS, 1) is None, "the objects in the cluster were not listed yet"


def test_an_inventory_is_published_when_it_changes_and_now_and_then_if_not() -> None:
    inventories: list[InventoryReported | None] = [None, None]
    published: list[InventoryReported] = []

    def inventory(generation: int, objects: int = 0) -> InventoryReported:
        subject = HeldSubject(subject="s", generation=generation, commanded=not objects, objects=objects)
        return InventoryReported(
            cluster="east", reported_at=0, interval_ms=1, digest=str(generation), subjects=(subject,)
        )

    def look(interval_ms: int) -> InventoryReported | None:
        assert interval_ms == 10_000 * REPEAT
        return inventories.pop(0)

    taker = InventoryTaker(look, published.append, FakeClock(), 10.0)
    one, two, orphans = inventory(1), inventory(2), inventory(2, objects=3)
    inventories += [one, one, two, orphans, *[orphans] * (REPEAT + 1)]
    while inventories:
        taker.take()
    assert published == [one, two, orphans, orphans]
