"""What clusters hold against what was asked of them; and a cluster that is not heard is healthy nowhere."""

from __future__ import annotations

from services.status.decision.consistency import GRACE_MS
from shared.events.v1.inventories import HeldSubject
from shared.events.v1.objects import LEFT, ObjectsAudited
from shared.events.v1.status import Condition, Phase
from tests.unit.status.world import KEY, World, placement


def held(generation: int = 1, *, key: str = KEY, commanded: bool = True, objects: int = 1) -> HeldSubject:
    return HeldSubject(subject=f"workload/{key}", generation=generation, commanded=commanded, objects=objects)


def settled(world: World, *clusters: str) -> None:
    """Long enough after the decision, with every cluster heard."""
    world.wait(GRACE_MS)
    world.beat(*clusters)


def of_cluster(world: World, kind: str, cluster: str = "a") -> Condition:
    world.end()
    view = world.views[cluster]
    assert view is not None
    return next(item for item in view.conditions if item.type == kind)


def drifted(world: World, key: str = KEY) -> str:
    """The condition Drifted in short; empty without one."""
    world.end()
    found = [item for item in world.status(key).conditions if item.type == "Drifted"]
    return f"{found[0].reason} {found[0].message}" if found else ""


def running() -> World:
    world = World()
    world.run({"a": 1, "b": 1})
    settled(world, "a", "b")
    return world


def test_what_is_held_as_asked_is_no_drift() -> None:
    world = running()
    world.inventory("a", held())
    world.beat("a")
    assert not drifted(world)
    found = of_cluster(world, "CommandsConsistent")
    assert (found.status, found.reason, found.message) == ("True", "AsAsked", "1 workloads")


def test_a_command_that_is_not_held_is_missing_until_it_is() -> None:
    world = running()
    world.inventory("a")
    assert drifted(world) == "CommandMissing a: CommandMissing"
    found = of_cluster(world, "CommandsConsistent")
    assert (found.status, found.reason) == ("False", "CommandMissing")
    assert found.message == f"1 workloads are not as asked: CommandMissing {KEY}"
    assert world.status().phase is Phase.RUNNING, "its pods run nevertheless"

    world.inventory("a", held())
    assert not drifted(world)
    assert of_cluster(world, "CommandsConsistent").status == "True"


def test_objects_whose_command_was_forgotten_are_missing_their_command() -> None:
    world = running()
    world.inventory("a", held(commanded=False))
    assert drifted(world) == "CommandMissing a: CommandMissing"


def test_an_older_generation_is_stale() -> None:
    world = running()
    world.place(placement({"a": 2, "b": 1}, generation=5, at_ms=world.now_ms))
    settled(world, "a", "b")
    world.inventory("a", held(1))
    world.inventory("b", held(5))
    assert drifted(world) == "GenerationStale a: GenerationStale"


def test_what_was_decided_a_moment_ago_may_be_on_its_way() -> None:
    world = running()
    world.place(placement({"a": 2, "b": 1}, generation=5, at_ms=world.now_ms))
    world.inventory("a", held(1))
    assert not drifted(world)


def test_objects_where_none_should_be_are_orphans() -> None:
    world = running()
    world.place(placement({"b": 1}, generation=5, at_ms=world.now_ms))
    settled(world, "a", "b")
    world.inventory("a", held(1, commanded=False, objects=2))
    assert drifted(world) == "ObjectsOrphaned a: ObjectsOrphaned"
    world.inventory("a", held(1, commanded=False, objects=0))
    assert not drifted(world)


def test_objects_of_nobody_are_orphans_when_two_inventories_show_them() -> None:
    """One alone may be from before the placement was read, or from before the last object went."""
    world = running()
    world.inventory("a", held(), held(key="shop/nobody"))
    assert of_cluster(world, "ObjectsConsistent").status == "Unknown"
    assert dict(next(counts for name, counts in world.machine.roster.drifts() if name == "a")) == {}
    world.inventory("a", held(), held(key="shop/nobody"))
    found = of_cluster(world, "CommandsConsistent")
    assert (found.status, found.reason) == ("False", "ObjectsOrphaned")
    assert "shop/nobody" in found.message


def test_what_a_cluster_held_that_left_is_no_drift_until_it_says_so_again() -> None:
    world = running()
    world.beat("c")
    world.inventory("c", held())
    assert drifted(world) == "ObjectsOrphaned c: ObjectsOrphaned"
    world.beat("c", reason=LEFT)
    world.pod("a", "web-1")
    assert not drifted(world)
    world.beat("c")
    world.inventory("c", held())
    assert drifted(world) == "ObjectsOrphaned c: ObjectsOrphaned"


def test_a_withdrawal_that_nobody_holds_is_missing() -> None:
    """Without it the deletion would wait for a confirmation for ever."""
    world = running()
    world.place(placement({}, generation=5, deleting=True, withdrawn=("a", "b"), at_ms=world.now_ms))
    settled(world, "a", "b")
    world.inventory("a")
    assert drifted(world) == "CommandMissing a: CommandMissing"


def test_other_subjects_than_workloads_do_not_matter() -> None:
    world = running()
    world.inventory("a", held(), HeldSubject(subject="nodegroup/pool", generation=3, objects=1))
    world.inventory("a", held(), HeldSubject(subject="nodegroup/pool", generation=3, objects=1))
    world.beat("a")
    assert of_cluster(world, "CommandsConsistent").status == "True"


def test_inventories_are_compared_after_a_restart_once_all_was_read() -> None:
    world = running()
    world.inventory("a")
    again = World(live=False, now_ms=world.now_ms)
    again.restore(world)
    again.beat("a", "b")
    again.inventory("a")
    again.place(placement({"a": 1, "b": 1}), restored=True)
    again.caught_up()
    assert drifted(again) == "CommandMissing a: CommandMissing"
    assert dict(next(counts for name, counts in again.machine.roster.drifts() if name == "a")) == {"CommandMissing": 1}


def test_an_executor_that_says_nothing_is_not_consistent() -> None:
    world = running()
    world.beat("a")
    assert of_cluster(world, "CommandsConsistent").reason == "NotReported"
    world.inventory("a", held(), interval_ms=10_000)
    world.wait(31_000)
    world.beat("a")
    found = of_cluster(world, "CommandsConsistent")
    assert (found.status, found.reason) == ("Unknown", "ExecutorSilent")


def test_what_the_watchers_audit_found_is_a_condition() -> None:
    world = running()
    audit = ObjectsAudited(finished_at=1, objects=7)
    expected = [
        (None, ("Unknown", "NotAudited")),
        (audit, ("True", "Compared")),
        (audit.model_copy(update={"unlike_cluster": 1, "unlike": ("v1/pods",)}), ("True", "Repaired")),
        (audit.model_copy(update={"unchecked": ("v1/pods",)}), ("Unknown", "NotCompared")),
    ]
    for audited, wanted in expected:
        world.beat("a", audited=audited)
        found = of_cluster(world, "ObjectsConsistent")
        assert (found.status, found.reason) == wanted


def test_a_silent_cluster_is_healthy_nowhere() -> None:
    world = running()
    world.inventory("a", held())
    world.beat("a", audited=ObjectsAudited(finished_at=1, objects=7))
    world.end()
    assert world.status().phase is Phase.RUNNING
    assert not any(part.stale for part in world.status().clusters)
    assert world.machine.stale() == 0

    world.wait(10_000)
    world.beat("b")
    world.wait(6_000)
    world.end()

    status = world.status()
    assert (status.phase, status.reason, status.ready) == (Phase.DEGRADED, "ClusterSilent", 1)
    assert (world.condition("Ready").status, world.condition("Ready").reason) == ("Unknown", "ClusterSilent")
    assert world.condition("ClustersReady").status == "Unknown"
    parts = {part.cluster: part for part in status.clusters}
    assert (parts["a"].stale, parts["a"].reason, parts["a"].counts.ready) == (True, "ClusterSilent", 0)
    assert not parts["b"].stale
    assert world.machine.stale() == 1
    view = world.views["a"]
    assert view is not None
    assert (view.silent, view.ready, view.reason) == (True, False, "ClusterSilent")
    assert of_cluster(world, "ObjectsConsistent").reason == "ClusterSilent"
