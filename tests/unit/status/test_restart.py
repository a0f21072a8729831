"""A restart repeats nothing, loses nothing, and tells what changed while nobody watched."""

from __future__ import annotations

from services.status.decision.machine import StatusMachine
from shared.events.v1.status import Phase
from tests.unit.status.test_main_line import MAIN_LINE
from tests.unit.status.world import KEY, World, placement, refusal


def successor(before: World, *, events: int = 0) -> World:
    """A new machine that has read what the old one had published; the last `events` are its tail."""
    after = World(live=False, now_ms=before.now_ms)
    after.restore(before)
    if events:
        after.restore_events(before.events[-events:])
    return after


def test_nothing_is_repeated() -> None:
    before = World()
    before.run({"a": 2})
    after = successor(before)
    after.place(placement({"a": 2}), restored=True)
    after.beat("a")
    after.pod("a", "web-0")
    after.pod("a", "web-1")
    after.caught_up()
    assert after.events == []
    assert after.published == []
    assert dict(after.machine.statuses())[KEY] == before.status()


def test_results_that_are_read_again_change_nothing() -> None:
    before = World()
    before.run({"a": 1})
    after = successor(before)
    after.report("a")
    after.place(placement({"a": 1}), restored=True)
    after.beat("a")
    after.pod("a", "web-0")
    after.caught_up()
    assert after.events == []
    assert after.machine.held_offsets() == {}


def test_what_was_applied_stays_applied_without_its_report() -> None:
    before = World()
    before.beat("a")
    before.place(placement({"a": 1}))
    before.report("a")
    before.end()
    after = successor(before)
    after.place(placement({"a": 1}), restored=True)
    after.beat("a")
    after.pod("a", "web-0")
    after.caught_up()
    assert after.phases == ["Running"]
    assert after.events[0].previous is Phase.APPLIED
    assert after.events[0].step == 4


def test_a_view_that_lags_is_not_believed_after_a_restart_either() -> None:
    before = World()
    before.run({"a": 1})
    before.place(placement({"a": 1}, generation=2, workload_generation=2, pod_set={"image": "nginx:2"}))
    before.report("a", 2, digest="d2")
    before.end()
    after = successor(before)
    after.place(placement({"a": 1}, generation=2, workload_generation=2, pod_set={"image": "nginx:2"}), restored=True)
    after.beat("a")
    after.owned("a", "Deployment", generation=1, digest="d1", current=True, wanted=1, updated=1)
    after.pod("a", "web-0")
    after.caught_up()
    assert after.phases == [], "the Deployment that was seen is still the old one (seed 845)"
    after.owned("a", "Deployment", generation=2, digest="d2", current=True, wanted=1, updated=1)
    after.end()
    assert after.phases == ["Running"]


def test_bound_pods_of_an_older_template_do_not_run_the_new_one_after_a_restart_either() -> None:
    before = World()
    before.beat("a")
    before.place(placement({"a": 1}, binding="node"))
    before.report("a")
    before.pod("a", "web-0", generation=1)
    before.end()
    changed = placement({"a": 1}, generation=9, workload_generation=2, binding="node", pod_set={"image": "nginx:2"})
    before.place(changed)
    before.report("a", 9)
    before.end()
    after = successor(before)
    after.place(changed, restored=True)
    after.beat("a")
    after.pod("a", "web-0", generation=1)
    after.caught_up()
    assert after.phases == []
    after.pod_gone("a", "web-0")
    after.pod("a", "web-0", generation=9)
    after.end()
    assert after.phases == ["Running"]


def test_a_template_that_changed_while_nobody_watched_is_noticed() -> None:
    before = World()
    before.beat("a")
    before.place(placement({"a": 1}, binding="node"))
    before.report("a")
    before.pod("a", "web-0", generation=1)
    before.end()
    after = successor(before)
    changed = placement({"a": 1}, generation=9, workload_generation=2, binding="node", pod_set={"image": "nginx:2"})
    after.place(changed)
    after.report("a", 9)
    after.beat("a")
    after.pod("a", "web-0", generation=1)
    after.caught_up()
    assert after.phases[-1] == "Applied"
    scaled = successor(before)
    scaled.place(placement({"a": 1}, generation=9, workload_generation=2, binding="node"))
    scaled.report("a", 9)
    scaled.beat("a")
    scaled.pod("a", "web-0", generation=1)
    scaled.caught_up()
    assert scaled.phases[-1] == "Running", "the template is the same, and so may the pod be"


def test_what_was_applied_stays_applied_though_its_name_had_an_earlier_life_in_the_log() -> None:
    before = World()
    before.place(refusal(generation=1))
    before.place(None)
    before.place(placement({"b": 1}, generation=2, uid="first"))
    before.place(None)
    before.run({"a": 1}, generation=3, uid="second")
    after = successor(before)
    for published in (refusal(generation=1), None, placement({"b": 1}, generation=2, uid="first"), None):
        after.place(published, restored=True)
    after.place(placement({"a": 1}, generation=3, uid="second"), restored=True)
    after.beat("a", "b")
    after.pod("a", "web-0")
    after.caught_up()
    assert after.phases == []
    assert dict(after.machine.statuses())[KEY] == before.status()


def test_placements_of_the_meantime_are_told_one_by_one() -> None:
    before = World()
    before.run({"a": 1})
    after = successor(before)
    after.place(placement({"a": 1}), restored=True)
    after.beat("a")
    after.pod("a", "web-0")
    after.owned("a", "Deployment", generation=7, current=True, wanted=1, updated=1)
    after.report("a", 7)
    after.place(placement({"a": 1}, generation=5, workload_generation=2, request="r2"))
    after.place(placement({"a": 1}, generation=7, workload_generation=3, request="r3"))
    after.caught_up()
    assert after.phases == ["Accepted", "Scheduled", *MAIN_LINE]
    assert [event.request_id for event in after.events] == ["r2", "r2", "r3", "r3", "r3", "r3"]


def test_pods_of_a_later_placement_do_not_degrade_an_earlier_one() -> None:
    before = World()
    before.run({"a": 1})
    after = successor(before)
    after.place(placement({"a": 1}), restored=True)
    after.beat("a", "b")
    after.pod("b", "web-0")
    after.report("b", 5)
    after.place(placement({"b": 1}, generation=5))
    after.caught_up()
    assert after.phases == [], "it ran in a, it runs in b: nothing was missing that anybody saw"
    assert after.status().generation == 5


def test_records_that_were_told_but_not_committed_are_not_told_again() -> None:
    before = World()
    before.run({"a": 1})
    before.place(placement({"a": 1}, generation=5, workload_generation=2))
    before.end()
    after = successor(before)
    for published in (placement({"a": 1}), placement({"a": 1}, generation=5, workload_generation=2)):
        after.place(published)
    after.beat("a")
    after.pod("a", "web-0")
    after.caught_up()
    assert after.events == []


def test_a_phase_change_without_its_status_is_not_told_again_and_the_status_follows() -> None:
    before = World()
    before.beat("a")
    before.place(placement({"a": 1}))
    before.end()
    lost = dict(before.statuses)
    before.report("a")
    before.pod("a", "web-0")
    before.end()
    before.statuses = lost
    after = successor(before, events=4)
    after.place(placement({"a": 1}), restored=True)
    after.beat("a")
    after.report("a")
    after.pod("a", "web-0")
    after.caught_up()
    assert after.events == []
    assert (after.status().phase, after.status().step) == (Phase.RUNNING, 4)
    assert after.status().milestones.running_at == before.events[-1].changed_at
    assert after.status().milestones.decided_at is not None


def test_a_phase_change_of_a_new_specification_does_not_take_over_what_the_old_one_had_applied() -> None:
    before = World()
    before.run({"a": 1})
    lost = dict(before.statuses)
    before.place(placement({"a": 1}, generation=5, workload_generation=2))
    before.end()
    before.statuses = lost
    after = successor(before, events=2)
    after.place(placement({"a": 1}, generation=5, workload_generation=2))
    after.beat("a")
    after.pod("a", "web-0")
    after.caught_up()
    assert after.events == []
    assert after.status().phase is Phase.SCHEDULED
    after.owned("a", "Deployment", generation=5, current=True, wanted=1, updated=1)
    after.report("a", 5)
    after.end()
    assert after.phases == ["Applied", "Running"]


def test_a_workload_that_vanished_meanwhile_is_deleted() -> None:
    before = World()
    before.run({"a": 1})
    after = successor(before)
    after.caught_up()
    assert after.phases == ["Deleted"]


def test_an_outdated_placement_that_compaction_left_last_does_not_delete() -> None:
    before = World()
    before.run({"a": 1}, generation=9)
    after = successor(before)
    after.place(placement({"a": 1}, generation=4), restored=True)
    after.caught_up()
    assert after.events == []


def test_a_deletion_that_was_told_is_not_told_again() -> None:
    before = World()
    before.run({"a": 1})
    before.place(placement(generation=2, deleting=True))
    before.place(None)
    before.end()
    after = successor(before)
    after.place(placement(generation=2, deleting=True))
    after.place(None)
    after.caught_up()
    assert after.events == []
    assert after.published == []
    after.wait(3_700_000)
    assert after.statuses[KEY] is None


def test_a_refusal_that_was_told_is_not_told_again() -> None:
    before = World()
    for request in ("r1", "r2"):
        before.place(refusal(generation=3, request=request))
        before.place(None)
    before.end()
    before.statuses.clear()
    after = successor(before, events=2)
    for request in ("r1", "r2"):
        after.place(refusal(generation=3, request=request))
        after.place(None)
    after.caught_up()
    assert after.events == []
    assert after.status().request_id == "r2"


def test_an_old_refusal_in_the_log_is_not_news() -> None:
    after = World(live=False)
    after.place(refusal(), restored=True)
    after.place(None, restored=True)
    after.caught_up()
    assert after.events == []
    assert not list(after.machine.statuses())


def test_silence_is_known_before_anything_is_told() -> None:
    before = World()
    before.run({"a": 1})
    after = successor(before)
    after.place(placement({"a": 1}), restored=True)
    after.beat("a")
    after.pod("a", "web-0")
    after.now_ms += 60_000
    after.caught_up()
    assert after.phases == ["Degraded"]
    assert after.status().reason == "ClusterSilent"


def test_a_first_start_tells_the_latest_of_everything() -> None:
    world = World(live=False)
    world.report("a", 4)
    world.place(placement({"a": 1}, generation=4))
    world.beat("a")
    world.pod("a", "web-0")
    world.caught_up()
    assert world.phases == MAIN_LINE


def test_many_workloads_are_told_in_several_rounds() -> None:
    world = World(StatusMachine(settle_limit=10), live=False)
    world.beat("a")
    keys = [f"shop/w{number}" for number in range(25)]
    for key in keys:
        world.place(placement({"a": 1}, key=key), key=key, restored=True)
    rounds = []
    world.caught_up()
    while world.machine.unsettled:
        rounds.append(world.machine.unsettled)
        world.end()
    assert rounds == [15, 5]
    assert sorted(world.statuses) == sorted(keys)


def test_what_happened_meanwhile_keeps_its_time() -> None:
    world = World(live=False)
    world.beat("a")
    world.place(placement({"a": 1}))
    world.report("a")
    world.pod("a", "web-0")
    happened = world.now_ms
    world.now_ms += 5_000
    world.caught_up()
    assert world.phases == MAIN_LINE
    assert world.status().milestones.running_at == happened


def test_repeated_placements_before_the_pods_were_read_again_change_nothing() -> None:
    before = World()
    before.run({"a": 1})
    after = successor(before)
    after.place(placement({"a": 1}))
    after.beat("a")
    after.pod("a", "web-0")
    after.caught_up()
    assert after.published == []
    assert dict(after.machine.statuses())[KEY].conditions == before.status().conditions


def test_what_was_applied_does_not_count_for_a_share_that_changed_meanwhile() -> None:
    before = World()
    before.beat("a")
    before.place(placement({"a": 1}))
    before.report("a")
    before.end()
    after = successor(before)
    after.place(placement({"a": 2}, generation=4))
    after.beat("a")
    after.caught_up()
    assert not after.status().clusters[0].applied
    after.report("a", 4)
    after.end()
    assert after.status().clusters[0].applied
