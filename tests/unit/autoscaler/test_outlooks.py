"""What a workload that waits for room is told: whether nodes come for it, and if not, why; no longer than it waits."""

from __future__ import annotations

from typing import Any

import pytest

from services.autoscaler.decision.nodes.cycle import Terms, Waiting, plan
from services.autoscaler.decision.nodes.outlooks import ORDERED, Outlooks
from shared.events.registry import decode
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.waiting import NodesAwaited
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL
from tests.node_groups import (
    CLUSTER,
    Json,
    group_json,
    heartbeat,
    node_at,
    node_json,
    placement,
    pod_at,
    running_pod,
    workload_json,
)
from tests.unit.autoscaler.test_planning import CONFIG, LARGE, SMALL, Planned

KEY = "default/web"
Gist = tuple[bool, str]


class Waits(Planned):
    """`told` is what stands in `fleet.waiting`, `news` what the last look added to it."""

    def __init__(self, *groups: Json, **more: Any) -> None:
        super().__init__(*groups, **more)
        self.outlooks = Outlooks()
        self.told: dict[str, NodesAwaited] = {}
        self.news: list[str] = []

    def ask(self, replicas: int, *nodes: str, uid: str = "u1", **more: Any) -> None:
        """A workload, of whose replicas as many wait as have no node; a pod takes a core."""
        body = placement(workload_json(replicas=replicas, **more), desired=replicas, shares={CLUSTER: nodes})
        self.fleet.place(KEY, body.model_copy(update={"uid": uid}))

    def look(self, after_ms: int = 1) -> Gist | None:
        """A plan; returns what is told of the workload then."""
        self.now += after_ms
        steps, result = plan(self.plans, Terms(self.policy, CONFIG), self.now, down=False), None
        while True:
            try:
                result = steps.send(result).make()
            except StopIteration as end:
                waiting: Waiting = end.value
                break
        self._told()
        self.news = []
        for key, said in self.outlooks.news(waiting.outlooks, self.fleet.owners(), self.now):
            self.news.append(key)
            if said is None:
                del self.told[key]
            else:
                self.told[key] = decode(NodesAwaited, said.to_json())
        return (self.told[KEY].coming, self.told[KEY].reason) if KEY in self.told else None

    @property
    def message(self) -> str:
        return self.told[KEY].message


def test_it_is_told_once_that_nodes_come_and_taken_back_when_there_is_room() -> None:
    world = Waits(SMALL)
    world.ask(3)
    assert world.look() == (True, "Ordered")
    assert (world.message, world.told[KEY].uid) == (ORDERED.message, "u1")
    at = world.told[KEY].planned_at
    world.put(node_at("n0", node_json(ready=False)))
    assert (world.look(), world.news, world.told[KEY].planned_at) == ((True, "Ordered"), [], at)
    # More of them change nothing as long as nodes come for all.
    world.ask(7)
    assert (world.look(), world.news) == ((True, "Ordered"), [])
    world.put(node_at("n0", node_json()), node_at("n1", node_json()))
    world.ask(7, *["n0"] * 4, *["n1"] * 3)
    assert (world.look(), world.news) == (None, [KEY])
    assert (world.look(), world.news) == (None, [])


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("OutOfStock", "OutOfStock"),
        ("Refused", "ProviderFailed"),
        ("Forbidden", "ProviderFailed"),
        ("NotFound", "ProviderFailed"),
    ],
)
def test_what_a_provider_says_is_told_until_another_group_has_room(reason: str, told: str) -> None:
    world = Waits(SMALL)
    world.ask(3)
    world.look()
    world.report("small", reason=reason, outcome="failed", message="no such machine")
    assert world.look() == (False, told)
    assert world.message.startswith("main: the providers of nodes on which such pods may run had none lately; ")
    assert world.message.endswith(f"east/small: {reason}: no such machine")
    # It is asked again when it is left alone no more, and goes on having none.
    assert (world.look(299_999), world.news) == ((False, told), [])
    assert world.look(1) == (True, "Ordered")
    world.report("small", reason=reason, outcome="failed", message="no such machine")
    assert world.look() == (False, told)
    world.declare(SMALL, LARGE)
    assert world.look() == (True, "Ordered")


def test_what_does_not_come_in_time_and_who_does_not_answer_is_a_provider_that_fails() -> None:
    world = Waits(SMALL, provision_ms=1000)
    world.ask(3)
    world.look()
    # Time begins with the first look at what was asked for.
    world.look()
    assert world.look(999) == (True, "Ordered")
    assert world.look(1) == (False, "ProviderFailed")
    assert world.message.endswith("; east/small: 1 nodes did not come in time")
    silent = Waits(SMALL, provision_ms=1_000_000)
    silent.ask(3)
    silent.look()
    silent.report("small", reason="ProviderUnavailable", outcome="failed")
    assert silent.look(59_999) == (True, "Ordered")
    assert silent.look(1) == (False, "ProviderFailed")
    assert silent.message.endswith("; east/small: ProviderUnavailable: for 60 s")


def test_of_several_groups_that_are_left_alone_one_that_is_out_of_stock_counts() -> None:
    world = Waits(SMALL, LARGE)
    world.ask(3)
    world.look()
    world.report("small", reason="Forbidden", outcome="failed")
    assert world.look() == (True, "Ordered")
    world.report("large", reason="OutOfStock", outcome="failed")
    assert world.look() == (False, "OutOfStock")
    assert world.message.endswith("; east/large: OutOfStock; east/small: Forbidden")


def test_limits_are_told_and_stock_where_that_is_what_is_left() -> None:
    world = Waits(group_json("small", most=1, price=1.0), LARGE)
    world.ask(7)
    world.look()
    world.report("large", reason="OutOfStock", outcome="failed")
    world.look()
    told = world.told[KEY]
    assert (told.coming, told.reason) == (False, "OutOfStock")
    assert "at their limits, or their providers had none lately" in told.message
    full = Waits(group_json("small", most=1))
    full.ask(5)
    assert full.look() == (False, "LimitReached")
    # So many of them more wait, for the same reason.
    full.ask(9)
    assert (full.look(), full.news) == ((False, "LimitReached"), [])


def test_limits_of_a_cluster_are_named() -> None:
    world = Waits(SMALL)
    body = {"name": CLUSTER, "nodeGroups": [SMALL], "nodeLimits": {"nodes": 1}}
    world.fleet.declare(CLUSTER, ClusterDeclared.model_validate(body))
    world.ask(5)
    assert world.look() == (False, "LimitReached")
    assert world.message.endswith(": nodes of cluster east")


def test_pods_that_are_too_large_for_every_group_fit_none() -> None:
    world = Waits(SMALL)
    world.ask(1, cpu="5")
    assert world.look() == (False, "NoGroupFits")
    world.ask(1, cpu="3")
    assert world.look() == (True, "Ordered")


def test_a_cluster_that_is_not_heard_is_asked_for_nothing() -> None:
    world = Waits(SMALL)
    assert world.look() is None
    beat = decode(ClusterObserved, heartbeat(world.now, ready=False).value)
    world.fleet.hear(CLUSTER, beat, world.now)
    world.ask(3)
    assert world.look() == (False, "ClusterClosed")
    world.ask(3, cpu="5")
    assert world.look() == (False, "NoGroupFits")


def test_without_node_groups_and_of_who_waits_for_something_else_nothing_is_told() -> None:
    world = Waits()
    world.ask(3)
    assert world.look() is None
    world.declare(SMALL)
    assert world.look() == (True, "Ordered")
    body = placement(workload_json(replicas=3), desired=3, reason="BudgetExceeded")
    world.fleet.place(KEY, body)
    assert world.look() is None


def test_groups_that_are_declared_no_more_take_it_with_them() -> None:
    world = Waits(SMALL)
    world.ask(1, cpu="5")
    assert world.look() == (False, "NoGroupFits")
    world.declare()
    assert world.look() is None


def test_pods_for_which_their_cluster_has_no_node_are_their_workloads() -> None:
    world = Waits(SMALL)
    labels = {WORKLOAD_LABEL: "web", WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: "main"}
    world.put(node_at("n0", node_json("", cpu="1")))
    world.ask(1, "n0")
    world.put(pod_at("other", running_pod("n0")), pod_at("nobodys", running_pod(waits=True, cpu="5")))
    assert (world.look(), world.news) == (None, [])
    world.put(pod_at("web-0", running_pod(waits=True, cpu="5", metadata={"labels": labels})))
    assert world.look() == (False, "NoGroupFits")
    assert world.message.startswith("east/default/ReplicaSet/web: no node group")
    world.put(pod_at("web-0", running_pod("n0", metadata={"labels": labels})))
    assert world.look() is None


def test_it_is_about_this_workload_and_a_successor_says_nothing_twice() -> None:
    world = Waits(SMALL)
    world.ask(1, cpu="5")
    world.look()
    heir = Waits(SMALL)
    for key, said in world.told.items():
        heir.outlooks.restore(key, said)
    heir.told = dict(world.told)
    heir.ask(1, cpu="5")
    assert (heir.look(), heir.news) == ((False, "NoGroupFits"), [])
    heir.ask(1, cpu="5", uid="u2")
    assert (heir.look(), heir.news, heir.told[KEY].uid) == ((False, "NoGroupFits"), [KEY], "u2")
    # One that is gone while nobody plans is told of when somebody does.
    late = Waits(SMALL)
    late.outlooks.restore(KEY, world.told[KEY])
    late.outlooks.restore("default/gone", world.told[KEY])
    late.outlooks.restore("default/gone", None)
    late.told = dict(world.told)
    assert (late.look(), late.news) == (None, [KEY])
