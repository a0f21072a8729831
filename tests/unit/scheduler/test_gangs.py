"""Replicas that start together or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.remedies import remedies
from shared.events.v1.decisions import Decision, RequestRejected, WorkloadPlaced
from tests.scheduling import World, counts_of, image, placed, workload

Json = dict[str, Any]
BINDINGS = ("cluster", "node")


def gang(name: str, *pod_sets: Json, binding: str = "node", clusters: tuple[str, ...] = (), **terms: Any) -> Json:
    placement = {"binding": binding, "gang": terms, **({"clusters": list(clusters)} if clusters else {})}
    return workload(name, *pod_sets, placement=placement)


def total(decision: WorkloadPlaced) -> list[int]:
    return [item.placed for item in decision.pod_sets]


def free_cpu(world: World) -> int:
    table = world.state.fleet.table
    return int(table.free[table.alive][:, table.columns.index["cpu"]].sum())


@pytest.mark.parametrize("binding", BINDINGS)
class TestBothBindings:
    """Six nodes of four cores each."""

    def test_a_gang_that_fits_starts_whole(self, world: World, binding: str) -> None:
        decision = placed(world.apply(gang("mpi", image(replicas=6, cpu="4"), binding=binding)))
        assert (total(decision), decision.pod_sets[0].started, decision.pod_sets[0].reason) == ([6], 6, "")

    def test_one_that_does_not_takes_nothing(self, world: World, binding: str) -> None:
        decision = placed(world.apply(gang("mpi", image(replicas=7, cpu="4"), binding=binding)))
        (item,) = decision.pod_sets
        assert (item.placed, item.shares, item.started) == (0, (), None)
        assert item.reason == "GangDoesNotFit"
        assert item.message == "room for 7 replicas is needed at once, and there is room for 6"
        assert free_cpu(world) == 24_000

    def test_two_halves_never_wait_for_each_other(self, world: World, binding: str) -> None:
        assert total(placed(world.apply(gang("one", image(replicas=4, cpu="4"), binding=binding)))) == [4]
        assert total(placed(world.apply(gang("two", image(replicas=4, cpu="4"), binding=binding)))) == [0]
        # The room that is left is for whom it is enough.
        assert total(placed(world.apply(workload("small", image(replicas=2, cpu="4"))))) == [2]
        world.delete("one")
        for cluster in ("east", "west"):
            world.withdrawn(cluster, "one")
        assert [total(item) for item in world.pending() if isinstance(item, WorkloadPlaced) and not item.deleting] == [
            [4]
        ]

    def test_it_starts_when_there_is_room_for_all(self, world: World, binding: str) -> None:
        world.apply(gang("mpi", image(replicas=8, cpu="4"), binding=binding))
        world.node("east", "new-0")
        assert world.pending() == []
        world.node("west", "new-1")
        decision = placed(world.pending())
        assert (total(decision), decision.pod_sets[0].reason) == ([8], "")

    def test_scaling_up_takes_the_whole_difference_or_nothing(self, world: World, binding: str) -> None:
        world.apply(gang("mpi", image(replicas=4, cpu="4"), binding=binding))
        before = counts_of(world.placements["default/mpi"])
        decision = placed(world.apply(gang("mpi", image(replicas=8, cpu="4"), binding=binding)))
        assert (counts_of(decision), decision.pod_sets[0].started) == (before, 4)
        assert decision.pod_sets[0].message == "room for 4 replicas is needed at once, and there is room for 2"
        decision = placed(world.apply(gang("mpi", image(replicas=6, cpu="4"), binding=binding)))
        assert (total(decision), decision.pod_sets[0].reason) == ([6], "")

    def test_what_is_lost_is_replaced_one_by_one(self, world: World, binding: str) -> None:
        """Of six, three were in a cluster that left: whatever room there is elsewhere is taken."""
        world.apply(gang("mpi", image(replicas=6, cpu="3"), binding=binding))
        world.node("east", "new")
        world.leaves("west")
        decision = placed(world.pending())
        assert (total(decision), decision.pod_sets[0].started) == ([4], 6)
        assert decision.pod_sets[0].reason == "Unschedulable"
        world.node("east", "newer")
        assert total(placed(world.pending())) == [5]

    def test_one_that_lost_all_starts_anew(self, world: World, binding: str) -> None:
        world.apply(gang("mpi", image(replicas=3, cpu="4"), binding=binding, clusters=("west",)))
        world.leaves("west")
        decision = placed(world.pending())
        assert (total(decision), decision.pod_sets[0].started) == ([0], None)

    def test_a_minimum_starts_together_and_the_rest_one_by_one(self, world: World, binding: str) -> None:
        some = gang("mpi", image(replicas=8, cpu="4"), binding=binding, minCount={"web": 5})
        decision = placed(world.apply(some))
        assert (total(decision), decision.pod_sets[0].started) == ([6], 5)
        assert decision.pod_sets[0].reason == "Unschedulable"
        world.node("east", "new")
        assert total(placed(world.pending())) == [7]

    def test_a_minimum_that_finds_no_room_takes_nothing(self, world: World, binding: str) -> None:
        some = gang("mpi", image(replicas=9, cpu="4"), binding=binding, minCount={"web": 7})
        assert total(placed(world.apply(some))) == [0]

    def test_pod_sets_of_one_gang_start_together(self, world: World, binding: str) -> None:
        sets = (image("driver", cpu="2"), image("workers", replicas=6, cpu="4"))
        decision = placed(world.apply(gang("spark", *sets, binding=binding, scope="workload")))
        assert total(decision) == [0, 0]
        assert [item.reason for item in decision.pod_sets] == ["GangDoesNotFit"] * 2
        assert decision.pod_sets[0].message == "it starts together with what finds no room: workers"
        assert free_cpu(world) == 24_000
        world.node("west", "new", cpu="2")
        assert total(placed(world.pending())) == [1, 6]

    def test_by_itself_each_pod_set_is_a_gang(self, world: World, binding: str) -> None:
        sets = (image("driver", cpu="2"), image("workers", replicas=6, cpu="4"))
        assert total(placed(world.apply(gang("spark", *sets, binding=binding)))) == [1, 0]

    def test_a_change_that_leaves_no_room_for_all_gives_up_what_there_is(self, world: World, binding: str) -> None:
        """It would start anew: half of it would hold room and do nothing."""
        world.apply(gang("mpi", image(replicas=5, cpu="3"), binding=binding))
        for name in ("one", "two"):
            world.apply(workload(name, image(cpu="1"), placement={"binding": binding}))
        decision = placed(world.apply(gang("mpi", image(replicas=5, cpu="4"), binding=binding)))
        assert total(decision) in ([0], [5])
        if total(decision) == [0]:
            assert decision.pod_sets[0].reason == "GangDoesNotFit"


def test_a_change_of_all_that_fits_is_whole(world: World) -> None:
    world.apply(gang("mpi", image(replicas=6, cpu="3")))
    assert total(placed(world.apply(gang("mpi", image(replicas=6, cpu="4"))))) == [6]


def test_a_change_takes_all_pod_sets_of_one_gang_along(world: World) -> None:
    sets = image("driver", cpu="1"), image("workers", replicas=3, cpu="3")
    assert total(placed(world.apply(gang("spark", *sets, scope="workload")))) == [1, 3]
    larger = image("driver", cpu="1"), image("workers", replicas=3, cpu="5")
    decision = placed(world.apply(gang("spark", *larger, scope="workload")))
    assert total(decision) == [0, 0]
    assert free_cpu(world) == 24_000


def test_to_become_a_gang_takes_nothing_away(world: World) -> None:
    world.apply(workload("mpi", image(replicas=8, cpu="4"), placement={"binding": "node"}))
    decision = placed(world.apply(gang("mpi", image(replicas=8, cpu="4"))))
    assert (total(decision), decision.pod_sets[0].started) == ([6], None)
    assert decision.pod_sets[0].reason == "GangDoesNotFit"


def test_no_budget_ends_in_the_middle_of_a_gang() -> None:
    world = World(SchedulerConfig(placements_per_call=4))
    world.cluster("east")
    for number in range(8):
        world.node("east", f"n{number}")
    sets = [image(name, replicas=2, cpu="2") for name in ("a", "b", "c", "d")]
    assert total(placed(world.apply(gang("all", *sets, scope="workload")))) == [2, 2, 2, 2]
    assert total(placed(world.apply(gang("more", image(replicas=8, cpu="2"))))) == [8]


def test_a_job_starts_whole_in_one_cluster_and_with_the_others(world: World) -> None:
    spec = {"containers": [{"name": "main", "image": "j", "resources": {"requests": {"cpu": "4"}}}]}
    template = {"spec": {"restartPolicy": "Never", **spec}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"parallelism": 4, "template": template}}
    sets = {"name": "job", "manifest": job}, image("driver")
    decision = placed(world.apply(gang("batch", *sets, binding="cluster", scope="workload")))
    assert total(decision) == [0, 0]
    assert decision.pod_sets[0].message == (
        "room for 4 replicas is needed at once in one cluster, and there is room for 3"
    )
    world.node("west", "new")
    decision = placed(world.pending())
    assert (total(decision), counts_of(decision)) == ([4, 1], {"west": 4})


@pytest.mark.parametrize("binding", BINDINGS)
def test_what_is_tried_in_vain_is_not_tried_for_ever(world: World, binding: str) -> None:
    """The room that was taken and given back is no room that was not there before."""
    sets = (image("driver", cpu="2"), image("workers", replicas=6, cpu="4"))
    world.apply(gang("spark", *sets, binding=binding, scope="workload"))
    assert world.pending() == []
    assert not world.state.has_work


def test_many_that_wait_are_not_tried_while_there_is_no_room_for_so_many(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        world.apply(gang(f"mpi-{number}", image(replicas=9, cpu="4")))
    tried: list[str] = []
    again = world.state.settling.redecide

    def redecide(key: str, *rest: Any) -> list[Decision]:
        tried.append(key)
        return again(key, *rest)

    monkeypatch.setattr(world.state.settling, "redecide", redecide)
    world.node("east", "new")
    assert world.pending() == []
    assert tried == []
    world.node("east", "newer")
    world.node("east", "newest")
    assert total(placed(world.pending())) == [9]


def test_remedies_say_how_many_would_start(world: World) -> None:
    world.apply(gang("mpi", image(replicas=7, cpu="4"), minCount={"web": 7}))
    found = {item.text: item.workload for item in remedies(world.state, "default/mpi", world.now)}
    assert set(found) == {"ask for 6 replicas", "request cpu of 2 or less for a pod"}
    fewer = found["ask for 6 replicas"]
    assert fewer.placement.gang is not None
    assert fewer.placement.gang.min_count == {"web": 6}


def test_a_standby_that_folds_comes_to_the_same(world: World) -> None:
    world.apply(gang("mpi", image(replicas=4, cpu="4")))
    world.apply(gang("mpi", image(replicas=9, cpu="4")))
    standby = World()
    for decision in world.journal:
        standby.state.apply(decision)
    record = standby.state.find("default/mpi")
    assert record is not None
    assert record.placed.pod_sets[0].started == 4


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (gang("w", image(replicas=2), minCount={"web": 3}), "workload.placement.gang.minCount.web"),
        (
            gang(
                "w",
                {
                    "name": "web",
                    "manifest": {
                        "apiVersion": "batch/v1",
                        "kind": "Job",
                        "spec": {
                            "template": {
                                "spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "i"}]}
                            }
                        },
                    },
                },
                binding="cluster",
                minCount={"web": 1},
            ),
            "workload.placement.gang.minCount.web",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(world: World, document: Json, field: str) -> None:
    (decision,) = world.apply(document)
    assert isinstance(decision, RequestRejected)
    assert [(error.field, error.reason) for error in decision.errors] == [(field, "Contradiction")]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"gang": {"minCount": {"db": 1}}}, "there is no pod set 'db'"),
        ({"gang": {}, "division": "duplicated"}, "gang goes with division divided"),
    ],
)
def test_terms_that_contradict_each_other_are_no_request(world: World, terms: Json, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world.apply(workload("w", placement=terms))
