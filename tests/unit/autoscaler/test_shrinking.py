"""Which nodes go, and how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.autoscaler.decision.nodes.draining import LATE, STRANDED, Drains, Grow, Keep, Remove, Times
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.seen import LOCAL_STORAGE, Cluster, Limits, Node, NodeKey, Pod, PodSet, Seen
from services.autoscaler.decision.nodes.shrinking import (
    AT_LEAST,
    ENOUGH,
    HEAD_ROOM,
    NO_GROUP,
    NO_PLACE,
    NOT_WORTH,
    TAKES_PODS,
    Shrinkage,
    shrink,
)
from services.autoscaler.decision.nodes.stock import Stock
from tests.node_groups import demand_of, group_of, node_of

GROUP = group_of("a", 4000, size=2, price=1.0)
CLUSTERS = (Cluster("one"), Cluster("other"))
NOW_POLICY = Policy(unneeded_ms=0)


def pod(key: str, cpu: int = 1000, **more: object) -> Pod:
    return replace(Pod(key, demand_of(cpu)), **more)  # type: ignore[arg-type]


def fleet(*nodes: Node, groups: tuple[object, ...] = (GROUP,), **more: object) -> Seen:
    return replace(Seen(CLUSTERS, groups, nodes), **more)  # type: ignore[arg-type]


def look(seen: Seen, policy: Policy = NOW_POLICY, going: tuple[NodeKey, ...] = ()) -> Shrinkage:
    return shrink(seen, policy, SchedulerConfig(), Stock(), 0, going)


def test_a_node_goes_whose_pods_fit_elsewhere_and_the_other_takes_them() -> None:
    seen = fleet(node_of(GROUP, "full", pod("x"), pod("y")), node_of(GROUP, "idle", pod("z")))
    found = look(seen)
    assert [(item.node.name, item.moves) for item in found.removals] == [("idle", (("z", NodeKey("one", "full")),))]
    assert found.removals[0].worth == pytest.approx(10 * 1 / 2 - 1 / 3)
    assert found.kept == {NodeKey("one", "full"): TAKES_PODS}


@pytest.mark.parametrize(
    ("change", "more", "reason"),
    [
        ({}, {"pods": (pod("z", pinned=LOCAL_STORAGE),)}, "z has local storage"),
        ({}, {"pods": (pod("z", budgets=("b",)),)}, "the disruption budget b leaves nothing for z"),
        ({}, {"kept": "its annotation forbids it"}, "its annotation forbids it"),
        ({}, {"pods": (pod("z", cpu=3000),)}, NO_PLACE),
        ({}, {"group": ""}, NO_GROUP),
        ({"least": 2}, {}, AT_LEAST),
    ],
)
def test_why_a_node_stays(change: dict[str, object], more: dict[str, object], reason: str) -> None:
    group = replace(GROUP, **change)  # type: ignore[arg-type]
    # The other is no candidate, since somebody keeps it.
    full = node_of(group, "full", pod("x"), pod("y"), kept="kept")
    idle = replace(node_of(group, "idle", pod("z")), **more)  # type: ignore[arg-type]
    found = look(fleet(full, idle, groups=(group,)))
    assert (found.removals, found.kept[idle.key]) == ((), reason)


def test_pods_that_go_with_the_node_do_not_count() -> None:
    seen = fleet(node_of(GROUP, "full", *(pod(f"x{n}") for n in range(4))), node_of(GROUP, "n", pod("d", daemon=True)))
    assert [(item.node.name, item.moves) for item in look(seen).removals] == [("n", ())]


def test_what_is_not_worth_it_stays() -> None:
    dear = group_of("dear", 64_000, size=1, price=100.0)
    nodes = node_of(dear, "large", kept="kept"), node_of(GROUP, "small", pod("y"), pod("z"))
    assert look(fleet(*nodes, groups=(dear, GROUP))).kept[NodeKey("one", "small")] == NOT_WORTH


def test_a_pod_stays_in_its_cluster() -> None:
    other = replace(GROUP, cluster="other")
    seen = fleet(node_of(GROUP, "n", pod("x")), node_of(other, "n", kept="kept"), groups=(GROUP, other))
    assert look(seen).kept[NodeKey("one", "n")] == NO_PLACE


def test_what_waits_and_the_head_room_come_first() -> None:
    nodes = node_of(GROUP, "full", pod("x"), pod("y"), kept="kept"), node_of(GROUP, "idle", pod("z"))
    waits = PodSet("w", demand_of(2000), 2)
    assert look(fleet(*nodes)).removals
    assert not look(fleet(*nodes, pending=(waits,))).removals
    # There is room elsewhere for what runs there, and none for what waits.
    idle = fleet(nodes[0], replace(nodes[1], pods=()), pending=(waits,))
    assert look(idle).kept[nodes[1].key] == TAKES_PODS
    for count, goes in ((1, False), (2, False)):
        wanted = PodSet("one/head-room", demand_of(2000), count)
        found = look(fleet(*nodes, head_room=(wanted,)))
        assert (bool(found.removals), found.kept[nodes[1].key]) == (goes, HEAD_ROOM)
    # As much of it as there was is there still.
    assert look(fleet(*nodes, head_room=(PodSet("one/head-room", demand_of(1000), 1),))).removals
    assert look(fleet(*nodes, head_room=(PodSet("one/head-room", demand_of(9000), 1),))).removals
    elsewhere = replace(demand_of(2000), clusters=("other",))
    assert look(fleet(*nodes, head_room=(PodSet("other/head-room", elsewhere, 1),))).removals


def test_nodes_go_though_head_room_would_be_spread_over_all_of_them() -> None:
    group = replace(GROUP, size=4)
    nodes = tuple(node_of(group, f"n{number}") for number in range(4))
    found = look(fleet(*nodes, groups=(group,), head_room=(PodSet("one/head-room", demand_of(1000), 5),)))
    assert len(found.removals) == 2
    assert set(found.kept.values()) == {HEAD_ROOM}


def test_what_is_replaced_leaves_the_head_room() -> None:
    cheap = group_of("cheap", 4000, price=0.5)
    dear = node_of(replace(GROUP, size=1), "dear", *(pod(f"x{n}") for n in range(2)))
    for count, goes in ((2, True), (3, True)):
        wanted = PodSet("one/head-room", demand_of(1000), count)
        assert bool(look(fleet(dear, groups=(GROUP, cheap), head_room=(wanted,))).removals) == goes
    small = group_of("small", 3000, price=0.5)
    wanted = PodSet("one/head-room", demand_of(1000), 2)
    assert not look(fleet(dear, groups=(GROUP, small), head_room=(wanted,))).removals


def test_no_more_go_at_once_than_may() -> None:
    nodes = tuple(node_of(GROUP, f"n{number}") for number in range(4))
    group = replace(GROUP, size=4)
    found = look(fleet(*nodes, groups=(group,)), Policy(most_draining=2))
    assert (len(found.removals), list(found.kept.values())) == (2, [ENOUGH, ENOUGH])


def test_a_cheaper_node_takes_the_place_of_a_dear_one() -> None:
    cheap = group_of("cheap", 4000, price=0.5)
    seen = fleet(node_of(replace(GROUP, size=1), "dear", *(pod(f"x{n}") for n in range(3))), groups=(GROUP, cheap))
    (found,) = look(seen).removals
    assert (found.replacement, [move.to for move in found.moves]) == (cheap.key, [None] * 3)
    assert not look(replace(seen, groups=(GROUP, replace(cheap, price=0.95)))).removals
    assert not look(replace(seen, groups=(GROUP, replace(cheap, most=0)))).removals
    assert not look(seen, Policy(limits=Limits(price_per_hour=2.1))).removals
    assert not look(replace(seen, groups=(GROUP, group_of("small", 2000, price=0.5)))).removals


LARGE = group_of("large", 16_000, price=2.0)


def halves(count: int, cpu: int = 3000, **more: object) -> Seen:
    """So many nodes of 4 cores with a pod of three on each, and a group of nodes of 16 that cost two of these."""
    group = replace(GROUP, size=count)
    nodes = tuple(node_of(group, f"n{number}", pod(f"x{number}", cpu)) for number in range(count))
    return replace(fleet(*nodes, groups=(group, LARGE)), **more)  # type: ignore[arg-type]


def test_one_node_takes_the_place_of_as_many_as_it_has_room_for() -> None:
    found = look(halves(7))
    assert [item.node.name for item in found.removals] == ["n0", "n1", "n2", "n3", "n4"]
    assert [len(item.beside) for item in found.removals] == [4] * 5
    assert [item.leads for item in found.removals] == [True, False, False, False, False]
    assert {item.replacement for item in found.removals} == {LARGE.key}
    assert {move.to for item in found.removals for move in item.moves} == {None}
    # Of all of them: three of seven are saved, and five of seven pods move.
    assert found.removals[0].worth == pytest.approx(10 * 3 / 7 - 5 / 7)
    assert set(found.kept.values()) == {NO_PLACE}


def test_too_few_of_them_would_cost_more() -> None:
    assert look(halves(3)).removals
    assert not look(halves(2)).removals
    assert not look(halves(3), Policy(unneeded_ms=0, least_saving=0.5)).removals


def test_limits_and_what_keeps_a_node_hold_for_several_as_well() -> None:
    def names(seen: Seen, policy: Policy = NOW_POLICY) -> list[str]:
        return [item.node.name for item in look(seen, policy).removals]

    assert names(halves(7), Policy(unneeded_ms=0, most_draining=3)) == ["n0", "n1", "n2"]
    assert names(halves(7), Policy(unneeded_ms=0, most_draining=2)) == []
    seven = halves(7)
    nodes = (replace(seven.nodes[0], kept="kept"), replace(seven.nodes[1], pods=(pod("b", 3000, budgets=("b",)),)))
    assert names(replace(seven, nodes=(*nodes, *seven.nodes[2:]))) == ["n2", "n3", "n4", "n5", "n6"]
    assert names(replace(seven, groups=(replace(GROUP, size=7, least=4), LARGE))) == ["n0", "n1", "n2"]
    assert names(replace(seven, groups=(replace(GROUP, size=7), replace(LARGE, most=0)))) == []
    assert names(replace(seven, groups=(replace(GROUP, size=7), replace(LARGE, cluster="other")))) == []
    # Both are there together for a while.
    assert names(seven, Policy(unneeded_ms=0, limits=Limits(price_per_hour=8.9))) == []
    assert len(names(seven, Policy(unneeded_ms=0, limits=Limits(price_per_hour=9.0)))) == 5


def test_the_group_that_saves_most_is_chosen() -> None:
    medium = group_of("medium", 8000, price=1.1)
    seen = halves(4, groups=(replace(GROUP, size=4), medium, LARGE))
    assert {item.replacement for item in look(seen).removals} == {LARGE.key}
    # Two for 1.1 save less than four for 2.
    dear = replace(LARGE, price=3.5)
    assert {item.replacement for item in look(halves(4, groups=(replace(GROUP, size=4), medium, dear))).removals} == {
        medium.key
    }


def test_what_one_node_replaces_goes_together() -> None:
    seen, drains, policy = halves(3), Drains(Times(provision=50)), Policy(unneeded_ms=10)
    keys = [node.key for node in seen.nodes]
    assert drains.step(seen, look(seen), policy, Stock(), 0) == []
    # One of them is needed for a moment: none begins.
    other = look(replace(seen, nodes=(replace(seen.nodes[0], kept="kept"), *seen.nodes[1:])))
    assert drains.step(seen, other, policy, Stock(), 5) == []
    assert drains.step(seen, look(seen), policy, Stock(), 10) == []
    began = drains.step(seen, look(seen), policy, Stock(), 20)
    assert began == [Grow(LARGE.key, keys[0], (keys[1], keys[2]))]
    assert drains.going == set(keys)
    ready = replace(seen, nodes=(*seen.nodes, node_of(LARGE, "new")))
    assert removed([*drains.step(ready, look(ready, going=tuple(keys)), policy, Stock(), 30)]) == ["n0", "n1", "n2"]


def test_the_outcome_is_replaced_by_nothing() -> None:
    """What was consolidated stays so."""
    found = look(halves(5))
    moved = tuple(
        item for each in found.removals for node in halves(5).nodes if node.key == each.node for item in node.pods
    )
    large = replace(LARGE, size=1)
    assert not look(fleet(node_of(large, "new", *moved), groups=(replace(GROUP, size=0), large))).removals


def removed(found: list[object]) -> list[str]:
    assert all(isinstance(item, Remove) for item in found)
    return [item.removal.node.name for item in found if isinstance(item, Remove)]


def test_a_node_goes_when_it_was_not_needed_for_long_enough_and_is_waited_for() -> None:
    drains, policy = Drains(Times(patience=1000)), Policy(unneeded_ms=100)
    full, idle = node_of(GROUP, "full", pod("x"), pod("y"), kept="kept"), node_of(GROUP, "idle", pod("z"))

    def step(now_ms: int, *nodes: Node) -> list[object]:
        seen = fleet(full, *nodes)
        found = shrink(seen, policy, SchedulerConfig(), Stock(), now_ms, drains.going)
        return [*drains.step(seen, found, policy, Stock(), now_ms)]

    assert step(0, idle) == []
    # Somebody needs it for a moment: its time begins anew.
    assert step(50, replace(idle, kept="kept")) == []
    assert step(100, idle) == []
    assert step(199, idle) == []
    assert removed(step(200, idle)) == ["idle"]
    cordoned = replace(idle, unschedulable=True)
    assert step(300, cordoned) == []
    assert drains.going == {idle.key}
    assert step(1199, cordoned) == []
    assert step(1200, cordoned) == [Keep(idle.key, GROUP.key, LATE)]
    assert step(1300, full) == []
    assert not drains.going


def test_a_node_that_is_gone_is_waited_for_no_more() -> None:
    drains = Drains()
    seen = fleet(node_of(GROUP, "full", pod("x"), pod("y"), kept="kept"), node_of(GROUP, "idle", pod("z")))
    assert removed([*drains.step(seen, look(seen), NOW_POLICY, Stock(), 0)]) == ["idle"]
    gone = fleet(seen.nodes[0])
    assert drains.step(gone, look(gone, going=(seen.nodes[1].key,)), NOW_POLICY, Stock(), 1) == []
    assert not drains.going


@pytest.mark.parametrize("why", ["stranded", "refused", "pinned"])
def test_a_drain_ends_where_its_node_cannot_go_after_all(why: str) -> None:
    drains, policy = Drains(Times(rest=1000)), NOW_POLICY
    idle, full = node_of(GROUP, "idle", pod("z")), node_of(GROUP, "full", pod("x"), pod("y"))
    seen = fleet(full, idle)
    assert removed([*drains.step(seen, look(seen), policy, Stock(), 0)]) == ["idle"]
    cordoned, refused, reason = replace(idle, unschedulable=True), {}, STRANDED
    if why == "stranded":
        full = node_of(GROUP, "full", *(pod(f"x{n}") for n in range(4)))
    elif why == "refused":
        refused, reason = {idle.key: "PodsNotEvicted: no budget"}, "PodsNotEvicted: no budget"
    else:
        cordoned, reason = replace(cordoned, pods=(pod("z", pinned=LOCAL_STORAGE),)), f"z {LOCAL_STORAGE}"
    now = fleet(full, cordoned)
    found = drains.step(now, look(now, going=(idle.key,)), policy, Stock(), 1, refused)
    assert found == [Keep(idle.key, GROUP.key, reason)]
    # It rests, whatever is possible then.
    assert drains.step(seen, look(seen), policy, Stock(), 1000) == []
    assert removed([*drains.step(seen, look(seen), policy, Stock(), 1001)]) == ["idle"]


def test_a_replacement_is_there_first_or_its_group_is_out_of_stock() -> None:
    cheap = group_of("cheap", 4000, price=0.5)
    dear = node_of(replace(GROUP, size=1), "dear", pod("x"))
    seen = fleet(dear, groups=(replace(GROUP, size=1), cheap))
    drains, late, lacking = (Drains(Times(provision=50)) for _ in range(3))
    stock = Stock()
    for each in (drains, late, lacking):
        assert each.step(seen, look(seen), NOW_POLICY, stock, 0) == [Grow(cheap.key, dear.key)]
        assert each.step(seen, look(seen, going=(dear.key,)), NOW_POLICY, stock, 1) == []
    new = node_of(cheap, "new")
    unready = replace(seen, nodes=(dear, replace(new, ready=False)))
    assert drains.step(unready, look(unready, going=(dear.key,)), NOW_POLICY, stock, 2) == []
    ready = replace(seen, nodes=(dear, new))
    assert removed([*drains.step(ready, look(ready, going=(dear.key,)), NOW_POLICY, stock, 3)]) == ["dear"]
    assert late.step(seen, look(seen, going=(dear.key,)), NOW_POLICY, stock, 50) == []
    assert (late.going, stock.is_open(cheap.key, 50)) == (frozenset(), False)
    # Whoever hears that there is none need not wait for it.
    assert lacking.step(seen, look(seen, going=(dear.key,)), NOW_POLICY, stock, 50) == []
    assert lacking.going == frozenset()


def test_there_may_be_nothing() -> None:
    assert look(Seen((), ())) == Shrinkage((), {}, frozenset())
    alone = Node("one", "n", {"cpu": 1000, "pods": 10})
    assert look(fleet(alone, groups=())).kept == {alone.key: NO_GROUP}
    # Who went meanwhile is no trouble.
    assert look(fleet(groups=(GROUP,)), going=(alone.key,)).stranded == frozenset()
