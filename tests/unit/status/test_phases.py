"""Everything beside the main line: waiting, degraded, silent, failed, ended, refused, deleted."""

from __future__ import annotations

import pytest

from services.status.decision.facts import PodPhase
from services.status.decision.messages import HeartbeatSeen, WriteCluster
from shared.events.v1.objects import LEFT
from shared.events.v1.results import ObjectResult
from shared.events.v1.status import Phase
from tests.unit.status.test_main_line import MAIN_LINE
from tests.unit.status.world import KEY, World, placement, refusal, rejected

JOB = {"manifest": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {}}}}
DAEMON = {"manifest": {"apiVersion": "apps/v1", "kind": "DaemonSet", "spec": {"template": {}}}}
CONFIG = {"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}
ONCE = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}


def test_replicas_without_a_place_wait_with_the_placements_reason() -> None:
    world = World()
    world.place(placement({"a": 1}, desired=3, reason="InsufficientCpu", message="no node has 4 cores left"))
    world.end()
    assert world.phases == ["Accepted", "Pending"]
    assert world.events[-1].reason == "InsufficientCpu"
    assert world.events[-1].message == "2 of 3 replicas have no place: no node has 4 cores left"
    assert world.condition("Scheduled").status == "False"
    world.place(placement({"a": 3}, generation=2))
    world.end()
    assert world.phases == ["Accepted", "Pending", "Scheduled"]


def test_what_ran_and_lost_its_place_is_degraded_and_says_why() -> None:
    world = World()
    world.run({"a": 2})
    world.place(placement({"a": 1}, generation=2, desired=2, reason="NoNode"))
    world.end()
    assert world.phases == [*MAIN_LINE, "Degraded"]
    assert world.status().reason == "NoNode"


def test_fewer_ready_pods_degrade_and_their_return_heals() -> None:
    world = World()
    world.run({"a": 2})
    world.pod("a", "web-1", ready=False, trouble="CrashLoopBackOff")
    world.end()
    assert (world.events[-1].phase, world.events[-1].reason) == ("Degraded", "CrashLoopBackOff")
    assert world.condition("Ready").status == "False"
    world.pod("a", "web-1")
    world.end()
    assert world.phases == [*MAIN_LINE, "Degraded", "Running"]


def test_a_pod_that_is_being_deleted_does_not_count() -> None:
    world = World()
    world.run({"a": 1})
    world.pod("a", "web-0", terminating=True)
    world.end()
    assert world.phases[-1] == "Degraded"


def test_a_silent_cluster_is_never_healthy() -> None:
    world = World()
    world.run({"a": 1, "b": 1})
    world.wait(14_000)
    world.beat("b")
    world.wait(2_000)
    assert (world.events[-1].phase, world.events[-1].reason) == ("Degraded", "ClusterSilent")
    assert world.condition("ClustersReady").status == "Unknown"
    assert "a" in world.condition("ClustersReady").message
    assert [part.counts.ready for part in world.status().clusters] == [0, 1]
    views = [item.view for item in world.instructions if isinstance(item, WriteCluster) and item.view]
    assert [(view.cluster, view.silent, view.ready) for view in views][-1] == ("a", True, False)
    world.beat("a")
    world.end()
    assert world.phases[-1] == "Running"
    assert world.condition("ClustersReady").status == "True"


@pytest.mark.parametrize("withdrawn", [("a",), ()])
def test_what_is_left_in_a_silent_cluster_does_not_count_either(withdrawn: tuple[str, ...]) -> None:
    """The workload has no share there any more; its pods are to go, and are still seen (found by simulation)."""
    world = World()
    world.run({"a": 1})
    world.place(placement({"b": 1}, generation=2, withdrawn=withdrawn))
    world.end()
    assert [(part.cluster, part.counts.ready) for part in world.status().clusters] == [("a", 1), ("b", 0)]
    world.wait(16_000)
    left = world.status().clusters[0]
    assert (left.cluster, left.counts.ready, left.stale) == ("a", 0, True)
    world.beat("a")
    world.end()
    left = world.status().clusters[0]
    assert (left.counts.ready, left.stale) == (1, False)


def test_what_is_replaced_elsewhere_is_waited_for_no_more() -> None:
    """Of a cluster that is silent nobody can confirm anything: what replaces its replicas says whether all is well."""
    world = World()
    world.run({"a": 1})
    world.wait(16_000)
    assert world.events[-1].reason == "ClusterSilent"
    world.place(placement({"a": 1, "b": 1}, generation=2, leaving={"a": 1}))
    world.beat("b")
    world.report("b", 2)
    world.pod("b", "web-1")
    world.end()
    status = world.status()
    assert (world.phases[-1], status.desired, status.ready) == ("Running", 1, 1)
    assert [(part.cluster, part.counts.placed, part.stale) for part in status.clusters] == [
        ("a", 0, True),
        ("b", 1, False),
    ]
    assert world.condition("ClustersReady").status == "True"


def test_what_is_not_replaced_yet_is_waited_for() -> None:
    world = World()
    world.run({"a": 2})
    world.wait(16_000)
    world.place(placement({"a": 2, "b": 1}, generation=2, leaving={"a": 1}))
    world.beat("b")
    world.report("b", 2)
    world.pod("b", "web-1")
    world.end()
    assert (world.events[-1].phase, world.events[-1].reason) == ("Degraded", "ClusterSilent")


def test_pods_of_a_cluster_that_was_never_heard_do_not_run() -> None:
    world = World()
    world.place(placement({"a": 1}))
    world.report("a")
    world.pod("a", "web-0")
    world.end()
    assert world.phases == ["Accepted", "Scheduled", "Applied"]
    assert world.condition("Ready").status == "Unknown"


def _leave(world: World, *, last_words: bool) -> None:
    """As the watcher says it; compaction may leave the tombstone alone."""
    if last_words:
        world.beat("a", ready=False, reason=LEFT)
    else:
        world.feed(HeartbeatSeen(id="left", at_ms=world.now_ms, cluster="a", observed=None))


def _says_that_a_left(world: World) -> None:
    clusters, ready = world.condition("ClustersReady"), world.condition("Ready")
    assert (clusters.status, clusters.reason) == ("False", "ClusterLeft")
    assert (ready.status, ready.reason) == ("Unknown", "ClusterLeft")
    assert "no longer in the fleet: a;" in ready.message
    assert {part.cluster: (part.reason, part.counts.ready) for part in world.status().clusters} == {
        "a": ("ClusterLeft", 0),
        "b": ("", 1),
    }


@pytest.mark.parametrize("last_words", [True, False])
def test_of_a_cluster_that_left_nothing_is_known_and_its_workloads_say_so(last_words: bool) -> None:
    world = World()
    world.run({"a": 1, "b": 1})
    _leave(world, last_words=last_words)
    world.end()
    assert (world.events[-1].phase, world.events[-1].reason) == ("Degraded", "ClusterLeft")
    _says_that_a_left(world)
    # It is gone from the read model, and no silence of it is noted later.
    assert [item.view for item in world.instructions if isinstance(item, WriteCluster)][-1] is None
    assert [name for name, _ in world.machine.clusters()] == ["b"]
    told = len(world.events)
    for _ in range(6):
        world.wait(4_000)
        world.beat("b")
    assert len(world.events) == told
    _says_that_a_left(world)


def test_the_tombstone_behind_the_last_words_changes_nothing() -> None:
    world = World()
    world.run({"a": 1, "b": 1})
    _leave(world, last_words=True)
    world.end()
    told = len(world.published)
    _leave(world, last_words=False)
    world.end()
    assert len(world.published) == told


def test_a_status_that_starts_later_learns_it_from_the_tombstone_alone() -> None:
    before = World()
    before.run({"a": 1, "b": 1})
    world = World(live=False, now_ms=before.now_ms)
    world.restore(before)
    world.place(placement({"a": 1, "b": 1}), restored=True)
    world.beat("b")
    world.pod("b", "web-0")
    _leave(world, last_words=False)
    world.caught_up()
    assert (world.events[-1].phase, world.events[-1].reason) == ("Degraded", "ClusterLeft")
    _says_that_a_left(world)


def test_a_cluster_that_was_never_heard_is_not_said_to_have_left() -> None:
    world = World()
    world.place(placement({"a": 1}))
    world.end()
    assert (world.condition("ClustersReady").status, world.condition("ClustersReady").reason) == (
        "Unknown",
        "ClusterSilent",
    )


def test_a_workload_that_moved_on_is_well_and_names_the_cluster_that_was_left_behind() -> None:
    world = World()
    world.run({"a": 1, "b": 1})
    _leave(world, last_words=False)
    world.place(placement({"b": 2}, generation=2, withdrawn=["a"]))
    world.report("b", 2)
    world.pod("b", "web-1")
    world.end()
    assert world.phases[-1] == "Running"
    assert world.condition("ClustersReady").status == "True"
    assert [(part.cluster, part.reason) for part in world.status().clusters] == [("a", "ClusterLeft"), ("b", "")]


@pytest.mark.parametrize("last_words", [True, False])
def test_a_cluster_that_comes_back_is_a_member_again(last_words: bool) -> None:
    world = World()
    world.run({"a": 1, "b": 1})
    _leave(world, last_words=last_words)
    world.end()
    world.beat("a")
    world.end()
    assert world.phases[-1] == "Running"
    assert world.condition("ClustersReady").status == "True"
    assert [part.reason for part in world.status().clusters] == ["", ""]
    assert [name for name, _ in world.machine.clusters()] == ["b", "a"]


def test_an_unready_cluster_says_so_without_degrading_what_is_seen_there() -> None:
    world = World()
    world.run({"a": 1})
    world.beat("a", ready=False, reason="ApiServerUnreachable")
    world.end()
    assert world.phases == MAIN_LINE
    assert (world.condition("ClustersReady").status, world.condition("ClustersReady").reason) == (
        "False",
        "ApiServerUnreachable",
    )


def test_a_document_that_the_server_will_never_accept_fails_the_workload_until_it_is_changed() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}))
    failure = ObjectResult(
        api_version="apps/v1", kind="Deployment", namespace="shop", name="cart-web", reason="Invalid", message="bad"
    )
    world.report("a", 1, "failed", reason="Invalid", failures=(failure,))
    world.end()
    assert world.phases == ["Accepted", "Scheduled", "Failed"]
    assert world.status().reason == "Invalid"
    assert world.status().message == "a: Deployment cart-web: bad"
    world.place(placement({"a": 1}, generation=2, workload_generation=2))
    world.report("a", 2)
    world.owned("a", "Deployment", generation=2, current=True, wanted=1, updated=1)
    world.pod("a", "web-0")
    world.end()
    assert world.phases[3:] == MAIN_LINE


def test_a_failure_that_is_tried_again_is_a_condition_and_no_phase() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}))
    world.report("a", 1, "failed", reason="Unreachable", message="connection refused")
    world.end()
    assert world.phases == ["Accepted", "Scheduled"]
    assert world.condition("Applied").message == "a: connection refused"
    assert world.status().clusters[0].reason == "Unreachable"
    world.report("a")
    world.end()
    assert world.phases[-1] == "Applied"


def test_failing_repairs_do_not_hide_that_pods_run() -> None:
    world = World()
    world.run({"a": 1})
    world.report("a", 1, "failed", reason="Invalid")
    world.end()
    assert world.phases == MAIN_LINE
    assert world.condition("Applied").status == "False"


def test_a_refusal_for_something_newer_counts_as_applied() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, generation=5))
    world.report("a", 5, "refused", applied_generation=5)
    world.end()
    assert world.phases[-1] == "Applied"


def test_a_refusal_does_not_hide_a_failure() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, generation=5))
    world.report("a", 5, "failed", reason="Unreachable")
    world.report("a", 3, "refused", applied_generation=5)
    world.end()
    assert world.condition("Applied").reason == "Unreachable"


def test_a_job_succeeds_after_it_ran() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, pod_set=JOB))
    world.report("a")
    world.owned("a", "Job", wanted=1, succeeded=1, complete=True)
    world.end()
    assert world.phases == [*MAIN_LINE, "Succeeded"]
    world.owned("a", "Job", gone=True)
    world.end()
    assert world.phases[-1] == "Succeeded", "cleaning up a finished Job does not undo its success"


def test_a_job_between_two_pods_is_not_degraded() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, pod_set=JOB))
    world.report("a")
    world.owned("a", "Job", wanted=3, active=1)
    world.pod("a", "job-0")
    world.end()
    assert world.phases == MAIN_LINE
    world.pod("a", "job-0", phase=PodPhase.SUCCEEDED, ready=False)
    world.owned("a", "Job", wanted=3, active=0, succeeded=1)
    world.end()
    assert world.phases == MAIN_LINE


def test_of_two_reports_the_later_in_the_log_counts_whatever_its_clock_says() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}))
    world.report("a", 1, "failed", reason="TooManyRequests")
    world.end()
    world.report("a", 1, skew_ms=-60_000)
    world.pod("a", "web-0")
    world.end()
    assert world.phases == MAIN_LINE


def test_a_failed_job_fails_the_workload() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, pod_set=JOB))
    world.report("a")
    world.owned("a", "Job", wanted=1, failed=True, reason="BackoffLimitExceeded", message="too many retries")
    world.end()
    assert world.phases == ["Accepted", "Scheduled", "Applied", "Failed"]
    assert world.status().reason == "BackoffLimitExceeded"


def test_pods_that_run_once_succeed_together() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 2}, pod_set=ONCE, binding="node"))
    world.report("a")
    world.pod("a", "web-0", phase=PodPhase.SUCCEEDED, ready=False, generation=1)
    world.pod("a", "web-1", generation=1)
    world.end()
    assert world.phases == MAIN_LINE
    world.pod("a", "web-1", phase=PodPhase.SUCCEEDED, ready=False, generation=1)
    world.end()
    assert world.phases == [*MAIN_LINE, "Succeeded"]


def test_pods_of_a_controller_do_not_count_once_pods_are_bound() -> None:
    """The workload is bound to nodes now; its new pods are there, and only the former ones are ready."""
    world = World()
    world.beat("a")
    world.place(placement({"a": 2}))
    world.report("a")
    world.pod("a", "web-x")
    world.pod("a", "web-y")
    world.place(placement({"a": 2}, generation=2, workload_generation=2, binding="node"))
    for ordinal in range(2):
        world.pod("a", f"web-{ordinal}", phase=PodPhase.PENDING, ready=False, generation=2)
    world.end()
    assert world.phases[-1] == "Applied"
    for ordinal in range(2):
        world.pod("a", f"web-{ordinal}", generation=2)
    for former in ("x", "y"):
        world.pod_gone("a", f"web-{former}")
    world.end()
    assert world.phases[-1] == "Running"


def test_a_pod_that_runs_once_and_fails_fails_the_workload() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 2}, pod_set=ONCE, binding="node"))
    world.report("a")
    world.pod("a", "web-0", phase=PodPhase.FAILED, ready=False)
    world.end()
    assert world.phases[-1] == "Failed"


def test_a_daemon_set_runs_on_as_many_nodes_as_its_cluster_has() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, pod_set=DAEMON))
    world.report("a")
    world.owned("a", "DaemonSet", current=True, wanted=2, updated=2)
    world.pod("a", "web-0")
    world.end()
    assert world.phases[-1] == "Applied"
    world.pod("a", "web-1")
    world.end()
    assert world.phases == MAIN_LINE
    assert (world.status().ready, world.status().desired) == (2, 2)


def test_what_has_no_pods_runs_once_applied() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, pod_set=CONFIG))
    world.report("a")
    world.end()
    assert world.phases == MAIN_LINE


def test_a_rolling_update_runs_only_when_it_is_through() -> None:
    world = World()
    world.run({"a": 2})
    world.owned("a", "Deployment", generation=1, digest="d1", current=True, wanted=2, updated=2)
    world.place(placement({"a": 2}, generation=2, workload_generation=2, pod_set={"image": "nginx:2"}))
    world.report("a", 2, digest="d2")
    world.end()
    assert world.phases[-1] == "Applied", "the Deployment that was seen is still the old one"
    world.owned("a", "Deployment", generation=2, digest="d2", current=False, wanted=2, updated=0)
    world.end()
    world.owned("a", "Deployment", generation=2, digest="d2", current=True, wanted=2, updated=1)
    world.end()
    assert world.phases[-1] == "Applied"
    world.owned("a", "Deployment", generation=2, digest="d2", current=True, wanted=2, updated=2, outdated=1)
    world.end()
    assert world.phases[-1] != "Running"
    world.owned("a", "Deployment", generation=2, digest="d2", current=True, wanted=2, updated=2, ready=1)
    world.end()
    assert world.phases[-1] == "Applied", "one of those that are ready is the old one (found by simulation)"
    world.owned("a", "Deployment", generation=2, digest="d2", current=True, wanted=2, updated=2)
    world.end()
    assert world.phases == MAIN_LINE * 2


def test_pods_of_the_former_specification_do_not_run_the_new_one_while_their_controller_is_away() -> None:
    world = World()
    world.run({"a": 2})
    world.owned("a", "Deployment", generation=1, digest="d1", current=True, wanted=2, updated=2)
    world.place(placement({"a": 2}, generation=2, workload_generation=2, pod_set={"image": "nginx:2"}))
    world.report("a", 2, digest="d2")
    world.owned("a", "Deployment", generation=2, digest="d2", current=True, wanted=2, updated=1, outdated=1)
    world.end()
    world.wait(6_000)
    world.beat("a")
    world.owned("a", "Deployment", gone=True)
    world.end()
    assert world.phases[-1] == "Applied", "somebody deleted the Deployment, and its pods are yet to follow it"
    world.owned("a", "Deployment", generation=2, digest="d2", current=True, wanted=2, updated=2)
    world.end()
    assert world.phases == MAIN_LINE * 2


def test_a_view_that_lags_is_not_believed_however_long_it_does() -> None:
    world = World()
    world.run({"a": 1})
    world.owned("a", "Deployment", generation=1, digest="d1", current=True, wanted=1, updated=1)
    world.place(placement({"a": 1}, generation=2, workload_generation=2, pod_set={"image": "nginx:2"}))
    world.report("a", 2, digest="d2")
    world.end()
    for _ in range(3):
        world.wait(6_000)
        world.beat("a")
    world.end()
    assert world.phases[-1] == "Applied", "the watcher is heard, and its watch stands still (found by simulation)"
    world.owned("a", "Deployment", generation=2, digest="d2", current=True, wanted=1, updated=1)
    world.end()
    assert world.phases == MAIN_LINE * 2


def test_bound_pods_of_an_older_template_do_not_run_the_new_one() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, binding="node"))
    world.report("a")
    world.pod("a", "web-0", generation=1)
    world.end()
    world.place(placement({"a": 1}, generation=9, workload_generation=2, binding="node", pod_set={"image": "nginx:2"}))
    world.report("a", 9)
    world.end()
    assert world.phases[-1] == "Applied"
    world.pod_gone("a", "web-0")
    world.pod("a", "web-0", generation=9)
    world.end()
    assert world.phases == MAIN_LINE * 2


def test_scaling_bound_pods_keeps_the_old_ones() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, binding="node"))
    world.report("a")
    world.pod("a", "web-0", generation=1)
    world.place(placement({"a": 2}, generation=9, workload_generation=2, binding="node"))
    world.report("a", 9)
    world.pod("a", "web-1", generation=9)
    world.end()
    assert world.phases == MAIN_LINE * 2


def test_terms_that_no_pod_shows_keep_the_old_pods() -> None:
    world = World()
    world.beat("a")
    world.place(placement({"a": 1}, binding="node"))
    world.report("a")
    world.pod("a", "web-0", generation=1)
    world.place(placement({"a": 1}, generation=9, workload_generation=2, binding="node", clusters=["a"]))
    world.report("a", 9)
    world.end()
    assert world.phases == MAIN_LINE * 2


def test_a_refused_change_leaves_the_workload_running() -> None:
    world = World()
    world.run({"a": 1})
    world.place(placement({"a": 1}, rejection=rejected()))
    world.end()
    assert world.phases == MAIN_LINE
    condition = world.condition("RequestAccepted")
    assert (condition.status, condition.reason) == ("False", "Invalid")
    assert condition.message == "workload.podSets.0.image: must not be empty"
    world.place(placement({"a": 1}, generation=2, workload_generation=2))
    world.end()
    assert world.condition("RequestAccepted").status == "True"


def test_a_refused_request_for_nothing_is_rejected_and_kept_for_a_while() -> None:
    world = World()
    world.place(refusal())
    world.place(None)
    world.end()
    assert world.phases == ["Rejected"]
    assert world.status().message == "workload.podSets.0.image: must not be empty"
    assert world.status().request_id == "bad"
    world.wait(3_599_000)
    assert world.statuses[KEY] is not None
    world.wait(2_000)
    assert world.statuses[KEY] is None
    assert not list(world.machine.statuses())


@pytest.mark.parametrize("ended_at", [4, 5])
def test_a_tombstone_that_is_older_than_the_plan_ends_nothing(ended_at: int) -> None:
    """A leader that did not know of its end repeated a refusal behind what its successor had placed."""
    world = World()
    world.run({"a": 1}, generation=5)
    world.place(refusal(generation=4))
    world.place(None, ended_at=ended_at)
    world.end()
    assert world.phases == MAIN_LINE
    world.place(placement({"a": 1}, generation=6, deleting=True))
    world.place(None, ended_at=6)
    world.end()
    assert world.phases[-1] == "Deleted"


def test_every_refused_request_is_told() -> None:
    world = World()
    for request in ("r1", "r2"):
        world.place(refusal(request=request))
        world.place(None)
    world.end()
    assert [event.request_id for event in world.events] == ["r1", "r2"]


def test_after_a_refusal_a_good_request_begins_the_line() -> None:
    world = World()
    world.place(refusal())
    world.place(None)
    world.end()
    world.run({"a": 1}, generation=2)
    assert world.phases == ["Rejected", *MAIN_LINE]
    world.wait(3_600_000)
    assert world.statuses[KEY] is not None, "a workload that lives is not retired"


def test_deleting_keeps_the_phase_until_everything_is_gone() -> None:
    world = World()
    world.run({"a": 1})
    world.place(placement(generation=2, deleting=True, withdrawn=["a"], workload_generation=2))
    world.end()
    assert world.condition("Terminating").status == "True"
    assert "a" in world.condition("Terminating").message
    world.pod_gone("a", "web-0")
    world.end()
    assert world.phases == MAIN_LINE
    world.place(None)
    world.end()
    assert world.phases == [*MAIN_LINE, "Deleted"]
    assert world.status().clusters == ()
    world.wait(3_601_000)
    assert world.statuses[KEY] is None


def test_another_workload_of_the_same_name_is_another_history() -> None:
    world = World()
    world.run({"a": 1})
    world.place(placement({"a": 1}, generation=8, uid="u2"))
    world.end()
    assert world.phases == [*MAIN_LINE, "Deleted", "Accepted", "Scheduled"]
    assert [event.uid for event in world.events[-3:]] == ["u1", "u2", "u2"]


def test_a_deletion_can_be_followed_by_a_new_life() -> None:
    world = World()
    world.run({"a": 1})
    world.place(placement(generation=2, deleting=True))
    world.place(None)
    world.end()
    world.place(placement({"a": 1}, generation=3, uid="u2"))
    world.report("a", 3)
    world.end()
    assert world.phases == [*MAIN_LINE, "Deleted", *MAIN_LINE]


def test_a_move_before_it_ran_goes_back_to_scheduled_with_a_reason() -> None:
    world = World()
    world.beat("a", "b")
    world.place(placement({"a": 1}))
    world.report("a")
    world.end()
    world.place(placement({"b": 1}, generation=2, withdrawn=["a"]))
    world.end()
    assert world.phases == ["Accepted", "Scheduled", "Applied", "Scheduled"]
    assert world.events[-1].reason == "PlacementChanged"
    assert [(part.cluster, part.reason) for part in world.status().clusters] == [("a", "Withdrawing"), ("b", "")]


def test_conditions_keep_the_time_of_their_last_transition() -> None:
    world = World()
    world.run({"a": 2})
    applied = world.condition("Applied").last_transition_at
    ready = world.condition("Ready").last_transition_at
    world.now_ms += 5_000
    world.pod("a", "web-1", ready=False)
    world.end()
    assert world.condition("Applied").last_transition_at == applied
    assert world.condition("Ready").last_transition_at >= ready + 5_000


def test_pods_and_workloads_that_are_gone_leave_nothing_behind() -> None:
    world = World()
    world.run({"a": 3})
    world.place(placement(generation=2, deleting=True))
    for number in range(3):
        world.pod_gone("a", f"web-{number}")
    world.place(None)
    world.end()
    world.wait(3_700_000)
    fleet = world.machine._fleet
    assert not fleet.all()
    assert not fleet._pods


def test_phases_are_counted() -> None:
    world = World()
    world.run({"a": 1})
    world.place(refusal("shop/other", generation=3), key="shop/other")
    world.end()
    assert dict(world.machine.phases()) == {Phase.RUNNING: 1, Phase.REJECTED: 1}


@pytest.mark.parametrize("generation", [1, 2])
def test_early_reports_hold_their_position_until_their_placement_is_seen(generation: int) -> None:
    world = World()
    world.beat("a")
    if generation == 2:
        world.place(placement({"a": 1}))
    world.report("a", generation, offset=42)
    world.end()
    assert world.machine.held_offsets() == {0: 42}
    world.place(placement({"a": 1}, generation=generation, workload_generation=generation))
    world.end()
    assert world.machine.held_offsets() == {}
    assert world.phases[-1] == "Applied"


def test_early_reports_are_given_up_after_a_while_and_counted() -> None:
    world = World()
    world.report("a", 7, key="shop/nobody", offset=3)
    world.wait(59_000)
    assert world.machine.held_offsets() == {0: 3}
    world.wait(2_000)
    assert world.machine.held_offsets() == {}
    assert world.machine.early.dropped == 1
