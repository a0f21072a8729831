"""The policies of the paper, on fleets of a few nodes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.quality_policies import POLICIES, draw, place, read_nodes, read_shapes


def node(name: str, gpus: int, cpu: int = 64_000, model: str = "T4") -> dict[str, str]:
    return {"sn": name, "cpu_milli": str(cpu), "memory_mib": "262144", "gpu": str(gpus), "model": model}


def pod(gpus: int, milli: int = 1000, cpu: int = 1000, spec: str = "") -> dict[str, str]:
    return {
        "cpu_milli": str(cpu),
        "memory_mib": "1024",
        "num_gpu": str(gpus),
        "gpu_milli": str(milli if gpus else 0),
        "gpu_spec": spec,
    }


def taken(policy: str, nodes: list[dict[str, str]], pods: list[dict[str, str]]) -> int:
    models: dict[str, int] = {}
    fleet, shapes = read_nodes(nodes, models), read_shapes(pods, models)
    return place(policy, fleet, shapes, shapes.of, seed=1)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_fits_is_placed_and_nothing_else(policy: str) -> None:
    nodes = [node("a", 2), node("b", 1, model="V100")]
    assert taken(policy, nodes, [pod(2), pod(1), pod(1)]) in {2000, 3000}
    assert taken(policy, nodes, [pod(4)]) == 0
    assert taken(policy, nodes, [pod(1, cpu=65_000)]) == 0
    assert taken(policy, nodes, [pod(1, spec="V100|A10"), pod(1, spec="V100")]) == 1000
    # Six tenths fit on three devices, once on each, whatever is left together.
    assert taken(policy, nodes, [pod(1, 600)] * 5) == 1800


@pytest.mark.parametrize("policy", ["best-fit", "fgd"])
def test_packing_leaves_a_whole_node(policy: str) -> None:
    nodes = [node("a", 8), node("b", 8)]
    assert taken(policy, nodes, [pod(1)] * 8 + [pod(8)]) == 16_000


def test_fgd_keeps_devices_whole_that_typical_pods_need() -> None:
    nodes = [node("a", 2)]
    # 0.5 and 0.5 share a device, since most pods want a whole one.
    assert taken("fgd", nodes, [pod(1, 500), pod(1, 500), pod(1), *[pod(1)] * 6]) == 2000


def test_pods_are_drawn_until_they_ask_for_the_capacity() -> None:
    pods = [pod(1), pod(2), pod(0)]
    shapes = read_shapes(pods, {})
    asks = shapes.what[:, 2] * shapes.what[:, 3]
    for capacity in (1_000, 2_000, 50_000):
        order = draw(shapes, capacity, seed=3)
        assert capacity - 2_000 < asks[order].sum() <= capacity
        assert np.array_equal(order, draw(shapes, capacity, seed=3))
    assert not np.array_equal(draw(shapes, 50_000, seed=3), draw(shapes, 50_000, seed=4))
