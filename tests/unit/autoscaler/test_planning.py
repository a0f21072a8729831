"""Orders of node groups: from what is seen to what is told, one look after the other."""

from __future__ import annotations

from typing import Any

import pytest

from services.autoscaler.decision.nodes.draining import Times
from services.autoscaler.decision.nodes.fleet import FleetSeen
from services.autoscaler.decision.nodes.growing import grow
from services.autoscaler.decision.nodes.planning import NodePlans, Told
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.shrinking import shrink
from services.autoscaler.decision.nodes.telling import command_of
from shared.events.registry import decode
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.node_groups import NodeGroupPlanned, NodesPlanned
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.results import CommandReported, ObjectResult
from shared.model.identities import ObjectKey
from shared.ports.event_log import NewRecord
from tests.node_groups import (
    CLUSTER,
    Json,
    declared,
    group_json,
    heartbeat,
    node_at,
    node_json,
    pod_at,
    report_at,
    running_pod,
)

NOW = 1_800_000_000_000
SMALL, LARGE = group_json("small", price=1.0), group_json("large", price=3.0)
CONFIG = SchedulerConfig()


class Planned:
    """An autoscaler without a log: what it tells is kept here."""

    def __init__(
        self,
        *groups: Json,
        unneeded_ms: int = 0,
        provision_ms: int = 1000,
        records: dict[str, NodeGroupPlanned] | None = None,
    ) -> None:
        self.now = NOW
        self.policy = Policy(unneeded_ms=unneeded_ms)
        self.fleet = FleetSeen(CONFIG, provision_ms)
        self.plans = NodePlans(self.fleet, self.policy, Times(provision=provision_ms, patience=5000, rest=100))
        self.records = dict(records or {})
        self.declare(*groups)
        self.fleet.hear(CLUSTER, decode(ClusterObserved, heartbeat(NOW).value), NOW)
        for key, record in self.records.items():
            self.plans.restore(key, record)
        self.again = self.plans.begin(self.now)

    def declare(self, *groups: Json) -> None:
        self.fleet.declare(CLUSTER, decode(ClusterDeclared, declared(*groups).value))

    def put(self, *records: NewRecord) -> None:
        for record in records:
            assert record.key is not None
            self.fleet.observe(ObjectKey.parse(record.key.decode()), record.value, self.now)

    def wait(self, count: int, first: int = 0) -> None:
        self.put(*(pod_at(f"w{n}", running_pod(waits=True)) for n in range(first, count)))

    def grow(self, after_ms: int = 1) -> list[Told]:
        """A look for who waits."""
        self.now += after_ms
        seen = self.plans.look(self.now, coming=True)
        if self.plans.wait(seen, self.now):
            seen = self.plans.look(self.now, coming=True)
        self.plans.grew(seen, grow(seen, self.policy, CONFIG, self.plans.stock, self.now), self.now)
        return self._told()

    def shrink(self, after_ms: int = 1) -> list[Told]:
        """A look for nodes that nobody needs."""
        self.now += after_ms
        seen = self.plans.look(self.now, coming=False)
        found = shrink(seen, self.policy, CONFIG, self.plans.stock, self.now, self.plans.drains.going)
        self.plans.shrank(seen, found, self.now)
        return self._told()

    def report(self, group: str, **more: Any) -> None:
        order = command_of(self.records[f"{CLUSTER}/{group}"])
        self.plans.report(decode(CommandReported, report_at(order, **more).value), self.now)

    def _told(self) -> list[Told]:
        told = list(self.plans.told(self.now, {"fleet.results": {0: 7}}))
        for item in told:
            if item.planned is None:
                del self.records[item.key]
            else:
                self.records[item.key] = decode(NodeGroupPlanned, item.planned.to_json())
        return told


def orders(told: list[Told]) -> dict[str, tuple[int, tuple[str, ...]]]:
    """By group the size and who goes, of those that are ordered."""
    found = [command_of(item.ordered).node_group for item in told if item.ordered is not None]
    return {item.group: (item.size, item.remove) for item in found if item is not None}


def test_a_group_is_left_as_it_was_found_until_a_plan_wants_it_otherwise() -> None:
    plan = Planned(SMALL)
    plan.put(node_at("n0", node_json()), node_at("n1", node_json()))
    told = plan.grow()
    assert [(item.key, item.ordered) for item in told] == [("east/small", None)]
    found = plan.records["east/small"]
    assert (found.size, found.there, found.generation, found.reason, found.confirmed) == (2, 2, 0, "Found", True)
    # Its owner may make it smaller as well.
    plan.put(node_at("n1", None))
    assert orders(plan.grow()) == {}
    assert plan.records["east/small"].size == 1


def test_pods_that_wait_are_ordered_nodes_for_once() -> None:
    plan = Planned(SMALL, LARGE)
    plan.wait(5)
    told = plan.grow()
    assert orders(told) == {"small": (2, ())}
    record = plan.records["east/small"]
    assert (record.generation, record.reason, record.chosen and record.chosen.size) == (1, "PodsWait", 2)
    assert record.chosen is not None
    assert record.chosen.terms["price"].weight == 10
    assert record.chosen.value == pytest.approx(sum(t.weight * t.value for t in record.chosen.terms.values()))
    command = command_of(record)
    assert (command.subject, command.action, command.epoch) == ("nodegroup/small", "run", NOW // 1000)
    # The same order is said once.
    assert [item.ordered for item in plan.grow()] == []
    plan.wait(9, 5)
    assert orders(plan.grow()) == {"small": (3, ())}
    assert plan.records["east/small"].generation == 2
    assert plan.records["east/small"].digest != record.digest


def test_without_a_group_that_helps_the_plan_says_why() -> None:
    plan = Planned(group_json("tiny", cpu="500m"))
    plan.wait(2)
    assert orders(plan.grow()) == {}
    said = plan.plans.plan_told()
    assert isinstance(said, NodesPlanned)
    assert (said.waiting, said.unplaced[0].count) == (2, 2)
    assert "no node group" in said.unplaced[0].reason
    # It is told once.
    plan.grow()
    assert plan.plans.plan_told() is None


@pytest.mark.parametrize(
    ("report", "again"),
    [
        ({"reason": "OutOfStock", "outcome": "failed"}, True),
        ({"reason": "Forbidden", "outcome": "failed"}, True),
        ({"reason": "Refused", "outcome": "failed"}, True),
        ({"reason": "ProviderUnavailable", "outcome": "failed"}, False),
        ({}, False),
    ],
)
def test_where_a_provider_has_none_the_next_plan_goes_elsewhere(report: Json, *, again: bool) -> None:
    plan = Planned(SMALL, LARGE)
    plan.wait(3)
    assert orders(plan.grow()) == {"small": (1, ())}
    plan.report("small", **report)
    assert orders(plan.grow()) == ({"small": (0, ()), "large": (1, ())} if again else {})
    if again:
        lacking = plan.records["east/small"]
        assert (lacking.reason, lacking.lacked_at, lacking.reported is not None) == ("OutOfStock", plan.now, True)
        # Also by who comes after this one.
        successor = Planned(SMALL, LARGE, records=plan.records)
        assert not successor.plans.stock.is_open(next(iter(successor.fleet.groups)), plan.now)


def test_a_provider_that_goes_on_not_answering_counts_as_one_that_has_none() -> None:
    plan = Planned(SMALL, LARGE, provision_ms=1_000_000)
    plan.wait(3)
    plan.grow()
    unavailable = {"reason": "ProviderUnavailable", "outcome": "failed"}
    plan.report("small", **unavailable)
    plan.grow(59_000)
    # It did answer, and is silent again.
    plan.report("small")
    plan.report("small", **unavailable)
    assert orders(plan.grow(59_999)) == {}
    assert orders(plan.grow(1)) == {"small": (0, ()), "large": (1, ())}


def test_what_does_not_come_in_time_is_given_up() -> None:
    plan = Planned(SMALL, LARGE)
    plan.wait(7)
    assert orders(plan.grow()) == {"small": (2, ())}
    plan.put(node_at("n0", node_json()))
    assert orders(plan.grow(999)) == {}
    assert orders(plan.grow(1000)) == {"small": (1, ()), "large": (1, ())}
    # It comes after all: what is there counts, and nobody else is told to choose one that goes.
    plan.put(node_at("n1", node_json()))
    assert orders(plan.grow()) == {"small": (2, ())}


def test_what_does_not_come_while_its_cluster_is_not_heard_may_have_come() -> None:
    plan = Planned(SMALL)
    plan.wait(7)
    assert orders(plan.grow()) == {"small": (2, ())}
    hear = plan.fleet.hear
    hear(CLUSTER, decode(ClusterObserved, heartbeat(plan.now, ready=False).value), plan.now)
    assert orders(plan.grow(5000)) == {}
    hear(CLUSTER, decode(ClusterObserved, heartbeat(plan.now).value), plan.now)
    assert orders(plan.grow(999)) == {}
    assert orders(plan.grow(1)) == {"small": (0, ())}


def test_a_report_of_an_older_order_says_nothing() -> None:
    plan = Planned(SMALL, LARGE)
    plan.wait(3)
    plan.grow()
    old = command_of(plan.records["east/small"])
    plan.wait(6, 3)
    plan.grow()
    plan.plans.report(decode(CommandReported, report_at(old, reason="OutOfStock", outcome="failed").value), plan.now)
    assert orders(plan.grow()) == {}
    assert plan.records["east/small"].reported is None


def test_a_node_that_nobody_needs_goes_by_name_and_is_gone() -> None:
    plan = Planned(SMALL, unneeded_ms=100)
    plan.put(*(node_at(f"n{n}", node_json()) for n in range(2)), pod_at("p", running_pod("n0")))
    assert orders(plan.shrink()) == {}
    assert orders(plan.shrink(99)) == {}
    assert orders(plan.shrink(1)) == {"small": (1, ("n1",))}
    record = plan.records["east/small"]
    assert (record.reason, record.removing[0].node, record.removing[0].moves) == ("NotNeeded", "n1", {})
    assert record.removing[0].worth > 0
    assert [(item.reason, item.such_as) for item in record.kept]
    assert orders(plan.shrink()) == {}
    plan.put(node_at("n1", None))
    assert orders(plan.shrink()) == {"small": (1, ())}
    assert orders(plan.shrink()) == {}


def test_a_node_stays_that_its_executor_cannot_empty() -> None:
    plan = Planned(SMALL)
    plan.put(*(node_at(f"n{n}", node_json()) for n in range(2)), pod_at("p", running_pod("n0")))
    assert orders(plan.shrink()) == {"small": (1, ("n1",))}
    failure = ObjectResult(api_version="v1", kind="Node", namespace="", name="n1", reason="NotEmptied", message="x")
    plan.report("small", outcome="failed", failures=(failure,))
    assert orders(plan.shrink()) == {"small": (2, ())}
    assert plan.records["east/small"].message == "n1 stays: NotEmptied: x"


def test_who_waits_takes_back_a_node_that_was_to_go() -> None:
    plan = Planned(SMALL)
    plan.put(*(node_at(f"n{n}", node_json()) for n in range(2)), pod_at("p", running_pod("n0", cpu="4")))
    assert orders(plan.shrink()) == {"small": (1, ("n1",))}
    plan.wait(3)
    assert orders(plan.grow()) == {"small": (2, ())}
    assert "were to go" in plan.records["east/small"].message
    assert not plan.plans.drains.going


def test_a_successor_goes_on_where_the_log_says() -> None:
    plan = Planned(SMALL)
    plan.put(*(node_at(f"n{n}", node_json()) for n in range(2)), pod_at("p", running_pod("n0")))
    plan.shrink()
    successor = Planned(SMALL, records=plan.records)
    # Nobody has confirmed it: its command may be missing.
    assert [command_of(item) for item in successor.again] == [command_of(plan.records["east/small"])]
    successor.put(*(node_at(f"n{n}", node_json()) for n in range(2)), pod_at("p", running_pod("n0")))
    assert orders(successor.shrink()) == {}
    assert len(successor.plans.drains.going) == 1
    successor.report("small", outcome="applied")
    successor.shrink()
    assert Planned(SMALL, records=successor.records).again == []
    # Its orders are newer than all before.
    successor.put(node_at("n1", None))
    successor.shrink()
    before, after = plan.records["east/small"], successor.records["east/small"]
    assert (after.epoch, after.generation) > (before.epoch, before.generation)


def test_what_its_owner_wants_at_least_is_ordered() -> None:
    plan = Planned(group_json("small", minSize=2))
    assert orders(plan.grow()) == {"small": (2, ())}
    plan.declare(group_json("small", minSize=3))
    assert orders(plan.grow()) == {"small": (3, ())}


def test_a_group_that_is_declared_no_more_ends() -> None:
    plan = Planned(SMALL, LARGE)
    plan.wait(3)
    plan.grow()
    plan.declare(LARGE)
    told = plan.grow()
    assert [(item.key, item.planned, item.ordered and item.ordered.group) for item in told if not item.planned] == [
        ("east/small", None, "small")
    ]
    assert orders([item for item in told if item.planned]) == {"large": (1, ())}


def test_nothing_is_ordered_of_a_cluster_that_is_not_heard() -> None:
    plan = Planned(group_json("small", minSize=2))
    plan.fleet.hear(CLUSTER, decode(ClusterObserved, heartbeat(NOW, ready=False).value), NOW)
    plan.wait(2)
    assert plan.grow() == []
