"""A user's own filters and cost terms: found by entry point, enabled by name, and guarded."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from services.scheduler.bootstrap import configuration
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.plugins import PluginsError, with_plugins
from services.scheduler.settings import SchedulerSettings
from tests.scheduling import World, image, nodes_of, placed, workload

README = Path(__file__).parents[3] / "services/scheduler/README.md"

ENTRY_POINTS = """
[flotilla.scheduler.filters]
only-green = acme_placement:only_green
not-full = acme_placement:NotFull
broken-filter = acme_placement:broken_filter
number = acme_placement:NUMBER
missing = acme_placement:missing

[flotilla.scheduler.costs]
carbon = acme_placement:carbon
crowd = acme_placement:Crowd
wrong-range = acme_placement:wrong_range
wrong-shape = acme_placement:wrong_shape
"""

MODULE = '''
import numpy as np

NUMBER = 3


class OnlyGreen:
    name, dynamic = "only-green", False

    def mask(self, view):
        return np.array([value == "green" for value in view.label("power")], bool)

    def reasons(self, view):
        yield "node(s) whose power is not green", ~self.mask(view)


def only_green(shape, request):
    return OnlyGreen() if dict(shape.node_selector).get("os") != "any" else None


class NotFull:
    """At most half of a node's cpu is given away."""

    name, dynamic = "not-full", True

    def __init__(self, shape, request):
        self.cpu = dict(shape.requests)["cpu"]

    def mask(self, view):
        return view.free_of("cpu") - self.cpu >= view.allocatable_of("cpu") // 2

    def reasons(self, view):
        yield "node(s) would be more than half full", ~self.mask(view)


class Carbon:
    name, dynamic = "carbon", False

    def cost(self, view):
        return np.array([float(value or 0) / 1000 for value in view.label("carbon")])


def carbon(shape, request):
    return Carbon()


class Crowd:
    """The part of a node's room for pods that is taken."""

    name, dynamic = "crowd", True

    def __init__(self, shape, request):
        pass

    def cost(self, view):
        return 1 - view.free_of("pods") / view.allocatable_of("pods")


class Broken:
    name, dynamic = "broken-filter", False
    trouble = True

    def mask(self, view):
        if Broken.trouble:
            raise ConnectionError("no answer")
        return np.ones(len(view.rows), bool)

    def reasons(self, view):
        return iter(())


def broken_filter(shape, request):
    return Broken()


class Answers:
    name, dynamic = "answers", False

    def __init__(self, answer):
        self.answer = answer

    def cost(self, view):
        return self.answer(len(view.rows))


def wrong_range(shape, request):
    return Answers(lambda rows: np.full(rows, 1.5))


def wrong_shape(shape, request):
    return Answers(lambda rows: np.zeros(rows + 1))
'''


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution as pip would leave it."""
    (tmp_path / "acme_placement.py").write_text(MODULE)
    information = tmp_path / "acme_placement-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-placement\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_placement", raising=False)


def config(*names: str, **weights: float) -> SchedulerConfig:
    return with_plugins(SchedulerConfig(), names, weights)


def fleet(config: SchedulerConfig) -> World:
    world = World(config)
    world.cluster("north")
    world.node("north", "a", labels={"power": "green", "carbon": "900"})
    world.node("north", "b", labels={"power": "coal", "carbon": "100"})
    return world


def bound(name: str, replicas: int = 1, cpu: str = "1") -> dict[str, object]:
    return workload(name, image(replicas=replicas, cpu=cpu), placement={"binding": "node"})


def test_a_filter_of_ones_own_refuses_and_says_why() -> None:
    world = fleet(config("only-green"))
    decision = placed(world.apply(bound("web", 4, cpu="3")))
    assert nodes_of(decision) == {"north": ("a",)}
    assert "1 node(s) whose power is not green" in decision.pod_sets[0].message


def test_a_shape_may_not_need_it() -> None:
    world = fleet(config("only-green"))
    for name in ("a", "b"):
        world.node("north", name, labels={"power": "coal", "os": "any"})
    placement = {"binding": "node", "nodeSelector": {"os": "any"}}
    assert placed(world.apply(workload("web", placement=placement))).pod_sets[0].placed == 1


def test_a_filter_that_depends_on_what_runs_is_asked_after_every_placement() -> None:
    world = fleet(config("not-full"))
    decision = placed(world.apply(bound("web", 10, cpu="1")))
    assert sorted(nodes_of(decision)["north"]) == ["a", "a", "b", "b"]
    assert "2 node(s) would be more than half full" in decision.pod_sets[0].message


def test_a_cost_term_of_ones_own_weighs_what_the_settings_say() -> None:
    assert nodes_of(placed(fleet(config("carbon", carbon=9)).apply(bound("web")))) == {"north": ("b",)}
    heavier = config("carbon", carbon=0, price=3)
    assert (heavier.weights.price, [cost.weight for cost in heavier.costs]) == (3, [0])


def test_a_cost_that_depends_on_what_runs_follows_it() -> None:
    decision = placed(fleet(config("crowd", crowd=1000)).apply(bound("web", 4, cpu="100m")))
    assert sorted(nodes_of(decision)["north"]) == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("broken-filter", "filter 'broken-filter' (acme-placement 1.2) failed: ConnectionError: no answer"),
        ("wrong-range", "cost term 'wrong-range' (acme-placement 1.2) answered 1.5; want numbers from 0 to 1"),
        ("wrong-shape", r"'wrong-shape' \(acme-placement 1.2\) answered an array of shape \(\d+,\) and type float64"),
    ],
)
def test_one_that_fails_is_named_and_the_workload_waits(name: str, problem: str) -> None:
    decision = placed(fleet(config(name)).apply(bound("web")))
    assert (decision.pod_sets[0].placed, decision.pod_sets[0].reason) == (0, "PluginFailed")
    assert re.search(problem if "\\" in problem else re.escape(problem), decision.pod_sets[0].message)


def test_what_runs_stays_while_a_plugin_fails_and_what_waits_is_placed_when_it_answers_again() -> None:
    world = fleet(config("broken-filter"))
    import acme_placement  # type: ignore[import-not-found]  # noqa: PLC0415 - it exists while a test runs

    acme_placement.Broken.trouble = False
    assert placed(world.apply(bound("web", 2))).pod_sets[0].placed == 2
    acme_placement.Broken.trouble = True
    world.node("north", "c")
    changed = placed(world.apply(bound("web", 3, cpu="2")))
    assert (changed.pod_sets[0].placed, changed.pod_sets[0].reason) == (2, "PluginFailed")
    acme_placement.Broken.trouble = False
    world.node("north", "d")
    assert placed(world.pending()).pod_sets[0].placed == 3


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["carbons"], "no plug-in 'carbons' is installed; there are: broken-filter, carbon, crowd, missing"),
        (["carbon", "carbon"], "'carbon' is enabled twice"),
        (["price"], "'price' has the name of a filter or cost term that is built in"),
        (["number"], r"'number' \(acme-placement 1.2\) is a int; want a callable"),
        (["missing"], r"'missing' \(acme-placement 1.2\) cannot be loaded: AttributeError"),
    ],
)
def test_settings_that_name_none_are_refused(names: list[str], problem: str) -> None:
    with pytest.raises(PluginsError, match=problem):
        configuration(SchedulerSettings(scheduler_plugins=names))


def test_a_weight_of_what_is_not_enabled_is_refused() -> None:
    with pytest.raises(ValueError, match="'carbon' is not a cost term"):
        configuration(SchedulerSettings(scheduler_weights={"carbon": 1.0}))


def test_the_example_of_the_readme_works(tmp_path: Path) -> None:
    section = README.read_text().split("## Your own filter or cost", 1)[1].split("\n## ", 1)[0]
    module, project = re.findall(r"```(?:python|toml)\n(.*?)```", section, re.DOTALL)
    (tmp_path / "rack_aware.py").write_text(dedent(module))
    group, name, target = re.findall(r'entry-points\."([\w.]+)"\]\n(\S+) = "([\w.:]+)"', project)[0]
    information = tmp_path / "rack_aware-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: rack-aware\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    world = World(config(name, **{name: 5.0}))
    world.cluster("north")
    world.node("north", "a", labels={"example.com/rack-watts": "9000"})
    world.node("north", "b", labels={"example.com/rack-watts": "1000"})
    assert nodes_of(placed(world.apply(bound("web")))) == {"north": ("b",)}
