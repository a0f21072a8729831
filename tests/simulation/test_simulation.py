"""The simulation itself: some dozens of seeds without a violation, the same run from the same seed, smaller plans."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.simulation.checker import Violation
from tests.simulation.generator import HURRY, SCENES, generate
from tests.simulation.loop import VirtualLoop
from tests.simulation.plan import Fault, Plan
from tests.simulation.shrink import shrink
from tests.simulation.simulate import Result
from tests.simulation.world import World

_SEEDS = 24
pytestmark = pytest.mark.timeout(660)


def simulation(*arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """In a process of its own: it fixes its hash seed and patches its logs."""
    environment = {**os.environ, **({"HOME": str(home)} if home else {})}
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)


def test_nothing_is_lost_and_nothing_is_done_twice_whatever_breaks() -> None:
    done = simulation("--seeds", str(_SEEDS), "--no-shrink")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{_SEEDS} seeds, 0 failed" in done.stdout


@cache
def digest_of_seven() -> str:
    found: list[str] = re.findall(r"digest (\w+)", simulation("--seed", "7").stdout)
    return found[0]


def test_a_seed_replays_exactly() -> None:
    assert re.findall(r"digest (\w+)", simulation("--seed", "7").stdout) == [digest_of_seven()]


def test_a_plan_is_stretched_over_hours() -> None:
    plan = generate(7)
    long = plan.stretched(2.0)
    assert (long.busy_s, long.quiet_s) == (7200.0, plan.quiet_s)
    assert [request.key for request in long.requests] == [request.key for request in plan.requests]
    assert max(request.at_s for request in long.requests) > 60 * max(request.at_s for request in plan.requests)
    assert [fault.seconds for fault in long.faults] == [fault.seconds for fault in plan.faults]


def test_nothing_is_lost_in_an_hour() -> None:
    done = simulation("--seeds", "2", "--hours", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(re.findall(r"([\d.]+) simulated hours", done.stdout)[0]) > 1


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "much"])
def test_hours_that_make_no_sense_are_refused(hours: str) -> None:
    done = simulation("--seeds", "1", "--hours", hours)
    assert done.returncode == 2
    assert "--hours" in done.stderr


def test_a_plan_is_written_and_read_again(tmp_path: Path) -> None:
    plan = generate(7)
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    assert Plan.model_validate_json((tmp_path / "plan.json").read_bytes()) == plan
    by_plan = simulation("--plan", str(tmp_path / "plan.json"))
    assert re.findall(r"digest (\w+)", by_plan.stdout) == [digest_of_seven()]


def test_a_burst_of_decisions_overcommits_no_node(tmp_path: Path) -> None:
    """A slow leader publishes several at once: the room of pods that it never saw goes to others in the same moment."""
    plan = generate(4, (HURRY, "slow_log:scheduler+pause:scheduler"))
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    done = simulation("--plan", str(tmp_path / "plan.json"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_fault_may_begin_while_another_lasts_and_outlast_it() -> None:
    for seed in range(30):
        faults = generate(seed, ("cut_log:executor+short_reads", "stale_api+forget_api")).faults
        assert {fault.kind for fault in faults} == {"cut_log", "short_reads", "stale_api", "forget_api"}
        for first, second in (("cut_log", "short_reads"), ("stale_api", "forget_api")):
            for fault in (fault for fault in faults if fault.kind == first):
                assert any(
                    other.kind == second
                    and other.target == fault.target
                    and fault.at_s <= other.at_s <= fault.at_s + fault.seconds <= other.at_s + other.seconds
                    for other in faults
                )


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_adds_requests_and_changes_nothing_else(scene: str) -> None:
    plan, with_scene = generate(7, ("kill",)), generate(7, ("kill", scene))
    assert with_scene.requests[: len(plan.requests)] == plan.requests
    assert len(with_scene.requests) > len(plan.requests)
    assert with_scene.model_copy(update={"requests": plan.requests}) == plan


def test_a_history_begins_with_what_is_there() -> None:
    """A rule that never hears of a node cannot find that there is too much on it."""
    plan = generate(7)
    nodes = {
        (write.cluster, write.object["metadata"]["name"])
        for write in World(plan, VirtualLoop()).history.writes
        if write.resource == "nodes" and write.object["status"]["allocatable"]
    }
    assert len(nodes) == sum(cluster.nodes for cluster in plan.clusters)


def result(plan: Plan, *rules: str) -> Result:
    violations = tuple(Violation(rule, "somebody", "something") for rule in rules)
    return Result(plan, violations, "", 0.0, 0.0, 0, 0, 0)


def test_a_plan_shrinks_to_what_its_failure_needs() -> None:
    full = generate(3).model_copy(
        update={"faults": tuple(Fault(at_s=n, kind="kill", target="status", number=n) for n in range(20))}
    )

    def attempt(plan: Plan) -> Result:
        needed = {7, 13} <= {fault.number for fault in plan.faults} and any(r.at_s > 20 for r in plan.requests)
        return result(plan, "lost") if needed else result(plan, "another")

    small = shrink(result(full, "lost"), attempt, budget=500).plan
    assert {fault.number for fault in small.faults} == {7, 13}
    assert len(small.requests) == 1
    assert (small.actions, small.quiet_s, len(small.clusters)) == ((), 0.0, 1)


@pytest.mark.parametrize("budget", [0, 5])
def test_shrinking_ends_with_its_budget(budget: int) -> None:
    tried: list[Plan] = []

    def attempt(plan: Plan) -> Result:
        tried.append(plan)
        return result(plan)

    failed = result(generate(3), "lost")
    assert shrink(failed, attempt, budget=budget) is failed
    assert len(tried) <= budget
