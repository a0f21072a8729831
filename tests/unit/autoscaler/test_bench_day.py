"""What `tests.bench.day` measures with: a fleet in virtual time, cluster-autoscaler's rules, and the ledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from random import Random

import pytest

from tests.bench.day import FLOTILLA, FORESEEN, HEAD_ROOM, PRICED, REACTIVE, ROOMY, SIDES, Day, live, part
from tests.bench.day_fleet import Node, Pod, Times, VirtualFleet, deletion_order
from tests.bench.day_ledger import Figures, Ledger
from tests.bench.day_load import Group, Served, fleet_for
from tests.bench.day_reactive import (
    EXPANDERS,
    Autoscaler,
    Option,
    by_capacity,
    cheapest_filled,
    cheapest_first,
    divide,
    estimate,
    least_waste,
)
from tests.bench.nodes import GIBI

NOW = 1_000_000
TIMES = Times(boot=100_000, start=10_000, drain=20_000)
SMALL = Group("one", "small", 4000, 16 * GIBI, 110, 1.0, 20)
LARGE = Group("one", "large", 16_000, 64 * GIBI, 110, 3.0, 10)
WEB = Served("web", 1000, GIBI, (0.0,))
BIG = Served("big", 3000, GIBI, (0.0,))


class Trial:
    """One cluster with its autoscaler, which looks every 10 s, or without one."""

    def __init__(self, *groups: Group, scans: bool = True, expander: str = "least-waste") -> None:
        self.ledger = Ledger(NOW)
        self.fleet = VirtualFleet(groups, TIMES, self.ledger, NOW, seed=1)
        self.autoscaler = Autoscaler(self.fleet, "one", EXPANDERS[expander], Random(1))
        if scans:
            self.fleet.every(10_000, self.autoscaler.scan)

    def ask(self, of: Served, replicas: int) -> None:
        self.ledger.want(of.name, replicas, self.fleet.now_ms)
        self.fleet.set_replicas("one", of, replicas)
        self.fleet.schedule()

    def passes(self, seconds: float) -> None:
        self.fleet.run(self.fleet.now_ms + round(1000 * seconds), self.fleet.schedule)

    def add(self, group: Group, count: int) -> list[Node]:
        """They are ready already."""
        known = set(self.fleet.nodes["one"])
        self.fleet.order(group, count)
        made = [node for name, node in self.fleet.nodes["one"].items() if name not in known]
        for node in made:
            node.ready = True
        return made

    def sizes(self) -> dict[str, int]:
        return {group.name: len(self.fleet.nodes_of(group)) for group in self.fleet.groups.values()}

    def bound(self) -> list[tuple[str, str]]:
        return [(pod.of.name, pod.node.name) for pod in self.fleet.pods.values() if pod.node is not None]


# --- the fleet ---


def test_a_node_boots_and_a_pod_starts_and_both_are_counted() -> None:
    trial = Trial(SMALL, scans=False)
    trial.ask(WEB, 2)
    trial.fleet.order(SMALL, 1)
    trial.passes(109.9)
    assert trial.bound()
    assert trial.ledger.figures(trial.fleet.now_ms).unready == 2
    trial.passes(0.2)
    assert all(pod.ready for pod in trial.fleet.pods.values())
    trial.passes(3600 - 110.1)
    trial.fleet.close()
    figures = trial.ledger.figures(trial.fleet.now_ms)
    assert (figures.cost, figures.ready_p95, figures.waited, figures.unready) == (1.0, 110.0, 2, 0)


def test_a_clusters_scheduler_takes_the_node_that_is_least_allocated() -> None:
    trial = Trial(SMALL, scans=False)
    first, second = trial.add(SMALL, 2)
    first.free_cpu -= 2000
    trial.ask(WEB, 1)
    assert trial.bound() == [("web", second.name)]
    trial.ask(BIG, 2)
    # There is room for one of them, once.
    assert trial.bound() == [("web", second.name), ("big", second.name)]
    assert [pod.of.name for pod in trial.fleet.waiting("one")] == ["big"]


def test_a_replica_set_gives_up_first_what_runs_least() -> None:
    node, other = (Node(name, SMALL, 0, 4000, 16 * GIBI, ready=True) for name in "ab")

    def pod(name: str, made: int, on: Node | None = None, ready_ms: int = 0) -> Pod:
        return Pod(name, WEB, "one", made, 0, on, ready=bool(ready_ms), ready_ms=ready_ms)

    pods = [
        pod("old-alone", 1, other, 10),
        pod("old-beside", 2, node, 10),
        pod("new-beside", 3, node, 20),
        pod("starts", 4, node),
        pod("waits", 5),
    ]
    assert [item.name for item in deletion_order(pods)] == ["waits", "starts", "new-beside", "old-beside", "old-alone"]


def test_a_node_that_goes_gives_its_pods_to_others_and_is_paid_until_it_is_gone() -> None:
    trial = Trial(SMALL, scans=False)
    first, second = trial.add(SMALL, 2)
    second.cordoned = True
    trial.ask(WEB, 2)
    trial.passes(10)
    second.cordoned = False
    trial.fleet.drain(first)
    trial.fleet.schedule()
    trial.passes(10)
    assert trial.bound() == [("web", second.name)] * 2
    assert trial.ledger.figures(trial.fleet.now_ms).disrupted == 2
    trial.passes(10)
    assert list(trial.fleet.nodes["one"].values()) == [second]
    assert trial.ledger.costs["one"] == pytest.approx(30 / 3600)


# --- the ledger ---


def test_who_was_wanted_first_counts_first_and_who_was_wanted_last_is_given_up_first() -> None:
    ledger = Ledger(0)
    ledger.want("web", 2, 0)
    ledger.want("web", 3, 5_000)
    ledger.want("web", 2, 6_000)
    ledger.came("web", 7_000)
    ledger.came("web", 9_000)
    assert ledger.figures(9_000)[1:4] == (9.0, 9.0, 9.0)
    assert ledger.figures(9_000).late == 0
    ledger.went("web", 10_000)
    found = ledger.figures(12_000)
    assert (found.waited, found.unready, found.disrupted, found.ready_p50) == (3, 1, 1, 7.0)
    # One that is wanted no more is not missed.
    ledger.want("web", 1, 12_000)
    assert ledger.figures(13_000).unready == 0


def test_late_is_who_waits_longer_than_a_minute_and_it_is_told_who_was_evicted() -> None:
    ledger = Ledger(0)
    ledger.want("web", 2, 0)
    ledger.came("web", 60_000)
    ledger.came("web", 60_001)
    found = ledger.figures(60_001)
    assert (found.late, found.late_evicted) == (0.5, 0.0)
    ledger.went("web", 70_000)
    ledger.went("web", 80_000)
    ledger.came("web", 131_000)
    found = ledger.figures(141_000)
    assert (found.waited, found.late, found.late_evicted) == (4, 0.75, 0.5)


def test_too_few_are_those_that_have_more_load_than_their_target_and_a_tenth() -> None:
    ledger = Ledger(0)
    ledger.want("web", 2, 0)
    ledger.came("web", 1)
    ledger.came("web", 1)
    for load in (1300.0, 1330.0, 2500.0):
        ledger.look("web", load, 600.0, 1000, 2)
    found = ledger.figures(2)
    assert (found.short, found.full) == (round(2 / 3, 5), round(1 / 3, 5))
    assert found.lost == round(500 / 5130, 5)


# --- what cluster-autoscaler does ---


def test_it_adds_nodes_for_who_waits_and_waits_for_those_that_boot() -> None:
    trial = Trial(SMALL)
    trial.ask(WEB, 10)
    trial.passes(5)
    assert trial.sizes() == {"small": 3}
    trial.passes(60)
    assert trial.sizes() == {"small": 3}
    trial.ask(WEB, 13)
    trial.passes(10)
    assert trial.sizes() == {"small": 4}


def test_a_group_at_its_most_takes_what_it_can_and_another_the_rest() -> None:
    few = Group("one", "few", 4000, 16 * GIBI, 110, 1.0, 2)
    trial = Trial(few, LARGE, expander="priority,least-waste")
    trial.ask(WEB, 10)
    trial.passes(5)
    assert trial.sizes() == {"few": 0, "large": 1}
    other = Trial(few, Group("one", "dear", 4000, 16 * GIBI, 110, 2.0, 9), expander="priority,least-waste")
    other.ask(WEB, 10)
    other.passes(5)
    assert other.sizes() == {"few": 2, "dear": 0}
    other.passes(10)
    assert other.sizes() == {"few": 2, "dear": 1}


def test_expanders_choose_by_what_is_idle_or_by_what_a_core_costs() -> None:
    pods = tuple(Pod(str(n), WEB, "one", n, 0) for n in range(4))
    options: Sequence[Option] = [estimate(group, pods, 10) for group in (SMALL, LARGE)]
    assert [(option.nodes, len(option.pods)) for option in options] == [(1, 4), (1, 4)]
    assert [option.group.name for option in least_waste(options)] == ["small"]
    assert [option.group.name for option in cheapest_first(options)] == ["large"]


def test_sizes_are_by_first_fit_decreasing() -> None:
    pods = [Pod(f"{of.name}{n}", of, "one", n, 0) for n, of in enumerate((WEB, BIG, WEB, BIG))]
    assert estimate(SMALL, pods, 10).nodes == 2
    one = estimate(SMALL, pods, 1)
    assert (one.nodes, [pod.of.name for pod in one.pods]) == (1, ["big", "web"])
    assert estimate(SMALL, [Pod("x", Served("x", 5000, GIBI, ()), "one", 1, 0)], 10).nodes == 0


def test_a_node_goes_when_less_than_half_was_requested_for_ten_minutes() -> None:
    trial = Trial(SMALL)
    full, idle = trial.add(SMALL, 2)
    idle.cordoned = True
    trial.ask(WEB, 3)
    idle.cordoned = False
    trial.ask(WEB, 4)
    # The fourth has a place on the first as well.
    assert [name for _, name in trial.bound()] == [full.name] * 3 + [idle.name]
    trial.passes(599)
    assert not idle.cordoned
    trial.passes(2)
    assert (idle.cordoned, full.cordoned) == (True, False)
    trial.passes(20)
    assert list(trial.fleet.nodes["one"].values()) == [full]
    # What is full stays.
    trial.passes(2000)
    assert trial.sizes() == {"small": 1}


def test_half_of_it_is_enough_for_a_node_to_stay() -> None:
    trial = Trial(SMALL)
    nodes = trial.add(SMALL, 2)
    trial.ask(WEB, 4)
    assert sorted(name for _, name in trial.bound()) == sorted(2 * [node.name for node in nodes])
    trial.passes(2000)
    assert trial.sizes() == {"small": 2}


def test_no_node_goes_where_its_pods_have_no_place() -> None:
    trial = Trial(SMALL, LARGE)
    small, large = trial.add(SMALL, 1)[0], trial.add(LARGE, 1)[0]
    small.cordoned = True
    trial.ask(BIG, 2)
    small.cordoned = False
    small.free_cpu = 2000
    assert {name for _, name in trial.bound()} == {large.name}
    trial.passes(2000)
    assert trial.sizes() == {"small": 1, "large": 1}


def test_no_node_goes_for_ten_minutes_after_others_were_added() -> None:
    trial = Trial(SMALL, LARGE)
    (idle,) = trial.add(SMALL, 1)
    trial.passes(305)
    trial.ask(Served("fat", 1000, 32 * GIBI, ()), 1)
    trial.passes(10)
    assert trial.sizes() == {"small": 1, "large": 1}
    trial.passes(590)
    assert not idle.cordoned
    trial.passes(10)
    assert idle.cordoned


def test_empty_nodes_go_ten_at_once() -> None:
    trial = Trial(SMALL)
    nodes = trial.add(SMALL, 12)
    trial.passes(601)
    assert sum(node.cordoned for node in nodes) == 10
    trial.passes(10)
    assert sum(node.cordoned for node in nodes) == 12


def test_others_go_one_after_the_other() -> None:
    trial = Trial(SMALL, LARGE)
    (large,) = trial.add(LARGE, 1)
    nodes = trial.add(SMALL, 2)
    large.cordoned = True
    trial.ask(Served("mid", 1500, GIBI, ()), 2)
    large.cordoned = False
    assert {name for _, name in trial.bound()} == {node.name for node in nodes}
    large.free_cpu = 8000
    trial.passes(601)
    assert sum(node.cordoned for node in nodes) == 1
    trial.passes(60)
    assert sum(node.gone for node in nodes) == 2


def test_replicas_are_divided_by_static_weights() -> None:
    assert divide(10, {"a": 1, "b": 2, "c": 1}) == {"a": 2, "b": 6, "c": 2}
    assert divide(1, {"a": 1, "b": 2}) == {"a": 0, "b": 1}
    groups = fleet_for(100_000.0)
    assert set(by_capacity(groups).values()) == {by_capacity(groups)["aurora"]}
    weights = cheapest_filled(groups, 100_000.0)
    assert sum(weights.values()) == 100
    assert weights["aurora"] > weights["borealis"] > weights["cirrus"] == weights["dune"] == 0


# --- both sides ---


def rising(name: str, cpu: int, least: float, most: float) -> Served:
    """Two hours: it rises in the first, and falls in the second."""
    half = [least + (most - least) * number / 11 for number in range(12)]
    return Served(name, cpu, cpu * 2 * GIBI // 1000, (*half, *reversed(half)))


DAY = Day((rising("web", 500, 2000, 20_000), rising("api", 1000, 10_000, 3000)), Times(), 1, hours=2)


@cache
def lived(name: str) -> tuple[Figures, Ledger]:
    return live(DAY, SIDES[name])


@pytest.mark.parametrize("name", SIDES)
def test_a_day_is_lived_through(name: str) -> None:
    figures, ledger = lived(name)
    # Two hours of what the load needs at the least, in the cheapest cluster and without waste; and four times of it.
    least = sum(map(sum, zip(*(of.load for of in DAY.workloads), strict=True))) / 24 / 600 * 2 * 0.0425
    assert least < figures.cost < 4 * least
    assert figures.waited > 20
    assert 15 <= figures.ready_max < 900
    assert figures.short < 0.7
    assert sum(ledger.costs.values()) == pytest.approx(figures.cost, abs=0.01)


def test_with_head_room_nobody_waits_for_a_node() -> None:
    assert lived(ROOMY)[0].ready_max < 195 <= lived(FLOTILLA)[0].ready_max


def test_what_the_autoscalers_settings_say_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOTILLA_AUTOSCALER_HEAD_ROOM", json.dumps(HEAD_ROOM))
    assert live(DAY, SIDES[FLOTILLA])[0] == lived(ROOMY)[0]


@pytest.mark.parametrize("name", [FLOTILLA, REACTIVE])
def test_the_same_day_again_is_the_same(name: str) -> None:
    assert live(DAY, SIDES[name])[0] == lived(name)[0]


def test_some_of_the_machines_are_other_days() -> None:
    columns = list(range(10))
    assert columns[part("2:5")] == [2, 3, 4]
    assert columns[part(":5")] + columns[part("5:")] == columns


@pytest.mark.parametrize("name", [PRICED, FORESEEN])
def test_who_goes_by_price_is_in_the_cheapest_clusters(name: str) -> None:
    costs = lived(name)[1].costs
    assert costs["aurora"] > costs.get("dune", 0.0)
