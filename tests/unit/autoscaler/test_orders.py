"""When to plan, and what of it does not come."""

from __future__ import annotations

from services.autoscaler.decision.nodes.growing import grow
from services.autoscaler.decision.nodes.orders import Batch, Batching, Fewer, Orders
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.seen import Cluster, NodeGroup, PodSet, Seen
from services.autoscaler.decision.nodes.stock import Stock
from tests.node_groups import demand_of, group_of, node_of


def seen(*groups: NodeGroup, there: int = 0, pending: int = 0) -> Seen:
    nodes = tuple(node_of(groups[0], f"n{number}") for number in range(there))
    waits = (PodSet("w", demand_of(1000), pending),) if pending else ()
    return Seen((Cluster("one"),), groups, nodes, waits)


def test_what_comes_together_is_planned_together() -> None:
    batch = Batch(Batching(idle=10, most=25))
    assert batch.due_ms is None
    for now_ms, due_ms in ((100, 110), (105, 115), (114, 124), (120, 125), (124, 125)):
        batch.arrived(now_ms)
        assert batch.due_ms == due_ms
    batch.planned()
    assert batch.due_ms is None
    batch.arrived(200)
    assert batch.due_ms == 210


def test_a_node_that_does_not_come_in_time_is_not_waited_for() -> None:
    orders, stock = Orders(provision_ms=100), Stock()
    group = group_of("a", 4000, size=2)
    assert orders.step(seen(group), stock, 0) == []
    assert orders.step(seen(group), stock, 99) == []
    # One came: the other has its time from then on.
    assert orders.step(seen(group, there=1), stock, 99) == []
    assert orders.step(seen(group, there=1), stock, 198) == []
    assert stock.is_open(group.key, 198)
    assert orders.step(seen(group, there=1), stock, 199) == [Fewer(group.key, 1)]
    assert not stock.is_open(group.key, 199)
    # Where the provider does not hear of that, it is said again, and nothing else happens.
    assert orders.step(seen(group, there=1), stock, 200) == [Fewer(group.key, 1)]


def test_a_node_that_comes_clears_its_group() -> None:
    orders, stock = Orders(), Stock()
    group = group_of("a", 4000, size=1)
    stock.lacked(group.key, 0)
    orders.step(seen(group), stock, 1)
    orders.step(seen(group, there=1), stock, 2)
    assert stock.is_open(group.key, 2)


def test_the_next_plan_goes_elsewhere() -> None:
    orders, stock, policy = Orders(provision_ms=100), Stock(), Policy()
    cheap, dear = group_of("cheap", 4000, price=1.0, size=1), group_of("dear", 4000, price=2.0)
    waits = seen(cheap, dear, pending=4)
    # While it may come, nothing more is asked for.
    assert orders.step(waits, stock, 0) == []
    assert grow(waits, policy, SchedulerConfig(), stock, 0).sizes == {}
    assert orders.step(waits, stock, 100) == [Fewer(cheap.key, 0)]
    again = seen(group_of("cheap", 4000, price=1.0), dear, pending=4)
    assert orders.step(again, stock, 101) == []
    # That less is asked for is no delivery.
    assert not stock.is_open(cheap.key, 101)
    assert grow(again, policy, SchedulerConfig(), stock, 101).sizes == {dear.key: 1}
