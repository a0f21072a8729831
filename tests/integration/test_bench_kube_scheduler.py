"""kube-scheduler beside a benchmark: it is measured, nothing of it stays behind, and what it lacks is said."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.bench import kube_scheduler
from tests.bench.decisions import fleet, pod_templates
from tests.testbed import process


@pytest.mark.testbed
async def test_kube_scheduler_binds_the_same_pods_with_each_setting(testbed_binaries: Mapping[str, Path]) -> None:
    before = {component for component in process._alive if component.running}
    templates = list(islice(cycle(pod_templates(4, "none")), 30))

    rates = await kube_scheduler.measure(fleet(20), templates, (0, 100), within_s=60)

    assert [rate.bound for rate in rates] == [30, 30]
    assert all(rate.per_s > 0 and rate.algorithm_per_s > 0 for rate in rates)
    assert {component for component in process._alive if component.running} <= before


@pytest.mark.testbed
async def test_kube_scheduler_that_binds_nothing_in_time_is_an_error(testbed_binaries: Mapping[str, Path]) -> None:
    (template,) = pod_templates(1, "none")
    nowhere = {"spec": {**template["spec"], "nodeSelector": {"disk": "none-has-it"}}}

    with pytest.raises(kube_scheduler.PeerError, match="bound 0 of 2 pods"):
        await kube_scheduler.measure(fleet(1), [nowhere] * 2, (0,), within_s=3)


def test_beside_without_the_test_bed_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOTILLA_CACHE", str(tmp_path))

    with pytest.raises(SystemExit, match=r"python -m tests\.testbed\.build"):
        kube_scheduler.require(argparse.Namespace(beside="kube-scheduler", peer_pods=10))


def test_beside_needs_two_pods_for_a_rate() -> None:
    with pytest.raises(SystemExit, match="--peer-pods must be at least 2"):
        kube_scheduler.require(argparse.Namespace(beside="kube-scheduler", peer_pods=1))
