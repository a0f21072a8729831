"""Load profiles, and the metrics that follow from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.simulator.core.meta import Json
from services.simulator.load import make_profile, pod_usage, read_series
from services.simulator.metrics import metrics_items
from services.simulator.spec import Load, NodeGroup
from tests.unit.simulator.builders import START, add, cluster, pod

_UID = "80000000-0000-4000-8000-000000000000"
_ZERO = "00000000-0000-4000-8000-000000000000"


def test_constant() -> None:
    assert make_profile(Load(level=0.7)).level(_UID, START) == 0.7


def test_a_sine_repeats_and_pods_are_out_of_step() -> None:
    profile = make_profile(Load(kind="sine", level=0.5, amplitude=0.3, period=100))
    levels = [profile.level(_ZERO, moment) for moment in range(100)]
    assert max(levels) == pytest.approx(0.8, abs=0.001)
    assert min(levels) == pytest.approx(0.2, abs=0.001)
    assert profile.level(_ZERO, 25) == pytest.approx(profile.level(_ZERO, 125))
    assert profile.level(_UID, 25) == pytest.approx(0.2)


def test_a_load_is_never_negative() -> None:
    profile = make_profile(Load(kind="sine", level=0.1, amplitude=0.5, period=100))
    assert min(profile.level(_ZERO, moment) for moment in range(100)) == 0


def test_recorded_series_are_followed_and_repeat(tmp_path: Path) -> None:
    file = tmp_path / "load.csv"
    file.write_text("minute,a,b\n0,10,90\n5,20,80\n10,30,70\n")
    profile = make_profile(Load(kind="recorded", file=file), read_series(file))
    assert [profile.level(_ZERO, moment) for moment in (0, 299, 300, 600, 900)] == [0.1, 0.1, 0.2, 0.3, 0.1]
    assert profile.level(_UID, 0) == 0.9


@pytest.mark.parametrize("text", ["", "minute,a\n", "minute,a\n0,1\n", "minute,a\n0,x\n5,1\n"])
def test_what_is_no_series_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "load.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_series(file)


def annotated(**annotations: str) -> Json:
    named = {f"simulator.flotilla.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    requests = {"requests": {"cpu": "100m", "memory": "64Mi"}}
    return {
        "metadata": {"uid": _UID, "annotations": named},
        "spec": {"containers": [{"name": "main", "resources": requests}]},
    }


def test_a_pod_says_what_it_uses_in_turn() -> None:
    wave = annotated(load="140,20", load_seconds="30")
    profile = make_profile(Load(level=0.7))
    used = [next(iter(pod_usage(profile, wave, moment)))[1] // 1_000_000 for moment in (0, 29.9, 30, 59, 60)]
    assert used == [140, 140, 20, 20, 140]


@pytest.mark.parametrize(
    "said", [{"load": "much"}, {"load": "-1"}, {"load": "nan"}, {"load": "10", "load_seconds": "0"}, {"load": ""}]
)
def test_what_a_pod_says_that_is_no_load_is_not_heard(said: dict[str, str]) -> None:
    profile = make_profile(Load(level=0.7))
    assert next(iter(pod_usage(profile, annotated(**said), START)))[1] == 70_000_000


def test_metrics_are_of_running_pods_and_sum_to_nodes() -> None:
    made = cluster(NodeGroup(count=1))
    add(made, pod("busy", {"cpu": "2", "memory": "1Gi"}))
    add(made, pod("idle"))
    add(made, pod("held", schedulerName="nobody"))
    made.settle(START + 5)
    load = make_profile(Load(level=0.5, default_cpu="100m", default_memory="128Mi"))
    by_name = {
        item["metadata"]["name"]: item["containers"][0]["usage"]
        for item in metrics_items(made.state, load, made.state.resource("metrics.k8s.io/v1beta1", "PodMetrics"))
    }
    assert by_name == {
        "busy": {"cpu": "1000000000n", "memory": "524288Ki"},
        "idle": {"cpu": "50000000n", "memory": "65536Ki"},
    }
    nodes = metrics_items(made.state, load, made.state.resource("metrics.k8s.io/v1beta1", "NodeMetrics"))
    assert nodes[0]["usage"] == {"cpu": "1150000000n", "memory": f"{524288 + 65536 + 512 * 1024}Ki"}
