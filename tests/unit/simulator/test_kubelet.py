"""Pods over time, in virtual time: start, run, finish, fail, stop."""

from __future__ import annotations

from typing import Any

import pytest

from services.simulator.cluster import Cluster
from services.simulator.controllers.kubelet import BEHAVIOUR, RUN_SECONDS
from services.simulator.core.printers.pods import pod_reason
from tests.unit.simulator.builders import START, add, cluster, condition, drop, get, pod

Json = dict[str, Any]


def _at(made: Cluster, seconds: float, name: str = "one") -> Json:
    made.settle(START + seconds)
    return get(made, "pods", name)


def test_a_pod_starts_after_its_latency() -> None:
    made = cluster()
    add(made, pod())
    creating = _at(made, 1.9)
    assert (creating["status"]["phase"], pod_reason(creating)) == ("Pending", "ContainerCreating")
    assert creating["status"]["hostIP"]
    assert "podIP" not in creating["status"]
    assert condition(creating, "Ready")["reason"] == "ContainersNotReady"
    running = _at(made, 2)
    assert pod_reason(running) == "Running"
    assert condition(running, "Ready")["status"] == "True"
    assert running["status"]["podIP"] == running["status"]["podIPs"][0]["ip"]
    assert running["status"]["containerStatuses"][0]["state"] == {"running": {"startedAt": "2023-11-14T22:13:22Z"}}


def test_other_writes_do_not_bring_the_start_forward() -> None:
    made = cluster()
    add(made, pod())
    made.settle(START + 1)
    found = get(made, "pods", "one")
    labels = {**found["metadata"], "labels": {"x": "y"}}
    made.state.store.replace("pods", {**found, "metadata": labels})
    assert _at(made, 1.5)["status"]["phase"] == "Pending"
    assert _at(made, 2)["status"]["phase"] == "Running"


def test_deletion_takes_its_time_but_not_more_than_the_grace() -> None:
    made = cluster()
    add(made, pod("slow"))
    add(made, pod("quick", terminationGracePeriodSeconds=0))
    made.settle(START + 3)
    for name in ("slow", "quick"):
        drop(made, "Pod", name)
    made.settle(START + 3.5)
    assert pod_reason(get(made, "pods", "slow")) == "Terminating"
    assert made.state.find("pods", "default", "quick") is None
    made.settle(START + 4)
    assert made.state.find("pods", "default", "slow") is None


def test_an_unbound_pod_is_deleted_at_once() -> None:
    made = cluster()
    add(made, pod(schedulerName="nobody"))
    drop(made, "Pod", "one")
    assert made.state.find("pods", "default", "one") is None


@pytest.mark.parametrize(
    ("policy", "annotations", "image", "reason"),
    [
        ("Never", {RUN_SECONDS: "3"}, "app:1", "Completed"),
        ("Never", {}, "will-fail:1", "Error"),
        ("OnFailure", {BEHAVIOUR: "complete"}, "app:1", "Completed"),
        ("Always", {BEHAVIOUR: "fail"}, "app:1", "CrashLoopBackOff"),
        ("Always", {BEHAVIOUR: "run"}, "will-fail:1", "Running"),
        ("Always", {BEHAVIOUR: "image-pull"}, "app:1", "ImagePullBackOff"),
        ("Always", {RUN_SECONDS: "soon"}, "app:1", "Running"),
    ],
)
def test_behaviours(policy: str, annotations: Json, image: str, reason: str) -> None:
    made = cluster()
    add(made, pod(annotations=annotations, image=image, restartPolicy=policy))
    assert pod_reason(_at(made, 6)) == reason


def test_a_pod_may_never_be_ready() -> None:
    made = cluster()
    add(made, pod(annotations={BEHAVIOUR: "not-ready"}))
    found = _at(made, 5)
    assert found["status"]["phase"] == "Running"
    assert condition(found, "Ready")["status"] == "False"


def test_crashes_back_off_ever_longer() -> None:
    made = cluster()
    add(made, pod(annotations={BEHAVIOUR: "fail", RUN_SECONDS: "1"}))
    # Starts at 2, crashes at 3, 14 and 35: waits of 10, then 20 seconds between.
    restarts = {
        moment: _at(made, moment)["status"]["containerStatuses"][0]["restartCount"] for moment in (12, 13, 33, 34)
    }
    assert restarts == {12: 0, 13: 1, 33: 1, 34: 2}
    last = _at(made, 36)["status"]["containerStatuses"][0]["lastState"]
    assert last["terminated"]["exitCode"] == 1


def test_a_pod_of_the_same_name_is_another_pod() -> None:
    made = cluster()
    add(made, pod())
    made.settle(START + 1.5)
    drop(made, "Pod", "one", grace_seconds=0)
    made.settle(START + 1.6)
    add(made, pod())
    assert _at(made, 2.5)["status"]["phase"] == "Pending"
    assert _at(made, 3.6)["status"]["phase"] == "Running"
