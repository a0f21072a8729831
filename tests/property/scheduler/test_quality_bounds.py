"""What policies are measured against, on fleets of a few nodes: policy <= optimum <= bound, whatever the fleet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.decision.config import GPU_POLICY, SchedulerConfig
from tests.bench.placement import new_state, request_of
from tests.bench.quality import schedule
from tests.bench.quality_bounds import most_taken
from tests.bench.quality_optimum import optimum
from tests.bench.quality_policies import POLICIES, Nodes, Shapes, place, read_nodes, read_shapes

Row = dict[str, str]
MODELS = ("T4", "V100")
# Floats of the programme may be off in their last digits, of thousandths.
EXACT = 0.01

nodes = st.builds(
    lambda cpu, memory, gpus, model: {
        "cpu_milli": str(cpu),
        "memory_mib": str(memory),
        "gpu": str(gpus),
        "model": model,
    },
    st.sampled_from((4_000, 8_000, 32_000)),
    st.sampled_from((8_192, 65_536)),
    st.sampled_from((1, 2, 4, 8)),
    st.sampled_from(MODELS),
)
pods = st.builds(
    lambda cpu, memory, gpus, milli, spec: {
        "cpu_milli": str(cpu),
        "memory_mib": str(memory),
        "num_gpu": str(gpus),
        "gpu_milli": str((milli if gpus == 1 else 1000) if gpus else 0),
        "gpu_spec": spec,
    },
    st.sampled_from((0, 500, 3_000, 5_000)),
    st.sampled_from((512, 5_000, 20_000)),
    st.sampled_from((0, 1, 1, 1, 2, 4)),
    st.sampled_from((110, 290, 460, 500, 590, 1000)),
    st.sampled_from(("", "", "", *MODELS, "|".join(MODELS))),
)


def named(rows: list[Row], key: str) -> list[Row]:
    return [{key: f"{key}{number:02}", **row} for number, row in enumerate(rows)]


def read(node_rows: list[Row], pod_rows: list[Row]) -> tuple[Nodes, Shapes]:
    models: dict[str, int] = {}
    return read_nodes(node_rows, models), read_shapes(pod_rows, models)


@settings(max_examples=40, deadline=None)
@given(st.lists(nodes, min_size=1, max_size=4), st.lists(pods, min_size=1, max_size=14), st.integers(0, 9))
def test_no_policy_exceeds_the_optimum_nor_the_optimum_the_bound(
    node_rows: list[Row], pod_rows: list[Row], seed: int
) -> None:
    node_rows, pod_rows = named(node_rows, "sn"), named(pod_rows, "name")
    fleet, shapes = read(node_rows, pod_rows)
    bound = most_taken(fleet, shapes, shapes.of)
    assert bound <= min(int(fleet.gpus.sum()), int((shapes.what[:, 2] * shapes.what[:, 3])[shapes.of].sum())) + EXACT
    best = optimum(fleet, shapes, shapes.of, bound)
    assert best.found <= bound + EXACT
    assert best.found <= best.bound
    for policy in POLICIES:
        assert place(policy, fleet, shapes, shapes.of, seed) <= best.bound, policy
    first = {shape: index for index, shape in reversed(list(enumerate(shapes.of.tolist())))}
    requests = [request_of(pod_rows[first[shape]]) for shape in range(len(shapes.what))]
    for config in (SchedulerConfig(), SchedulerConfig(weights=GPU_POLICY)):
        assert schedule(new_state(node_rows, config), requests, shapes, shapes.of) <= best.bound


def every_way(fleet: Nodes, shapes: Shapes, order: list[int]) -> Iterator[int]:
    """What is taken, for every way to place the pods one after the other, or not."""
    if not order:
        yield 0
        return
    shape, *rest = order
    yield from every_way(fleet, shapes, rest)
    cpu, memory, devices, milli = shapes.what[shape].tolist()
    for node in range(len(fleet.cpu)):
        there = np.flatnonzero((fleet.gpus[node] >= milli) & (fleet.gpus[node] > 0)).tolist()
        wanted = int(shapes.models[shape])
        if fleet.cpu[node] < cpu or fleet.memory[node] < memory or (wanted and not wanted & int(fleet.model[node])):
            continue
        for chosen in _subsets(there, devices):
            left = Nodes(*(array.copy() for array in fleet))
            left.cpu[node] -= cpu
            left.memory[node] -= memory
            left.gpus[node, chosen] -= milli
            yield from (devices * milli + more for more in every_way(left, shapes, rest))


def _subsets(items: list[int], size: int) -> Iterator[list[int]]:
    if not size:
        yield []
    elif items:
        head, *rest = items
        yield from ([head, *others] for others in _subsets(rest, size - 1))
        yield from _subsets(rest, size)


small_nodes = nodes.filter(lambda row: int(row["gpu"]) < 3)
small_pods = pods.filter(lambda row: 0 < int(row["num_gpu"]) < 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(small_nodes, min_size=1, max_size=2), st.lists(small_pods, min_size=1, max_size=4))
def test_the_optimum_is_that_of_an_exhaustive_search(node_rows: list[Row], pod_rows: list[Row]) -> None:
    fleet, shapes = read(named(node_rows, "sn"), named(pod_rows, "name"))
    best = optimum(fleet, shapes, shapes.of, most_taken(fleet, shapes, shapes.of))
    assert best.proven
    assert best.found == max(every_way(fleet, shapes, shapes.of.tolist()))


def bound_of(node_rows: list[dict[str, Any]], pod_rows: list[dict[str, Any]]) -> float:
    as_rows = ([{name: str(value) for name, value in row.items()} for row in rows] for rows in (node_rows, pod_rows))
    node_texts, pod_texts = as_rows
    fleet, shapes = read(named(node_texts, "sn"), named(pod_texts, "name"))
    return most_taken(fleet, shapes, shapes.of)


def test_the_bound_sees_shares_that_do_not_add_up_cpu_that_is_short_and_models() -> None:
    node = {"cpu_milli": 64_000, "memory_mib": 65_536, "gpu": 2, "model": "T4"}
    pod = {"cpu_milli": 1000, "memory_mib": 1024, "num_gpu": 1, "gpu_milli": 600, "gpu_spec": ""}
    # A device takes one share of six tenths, whatever is left of all together.
    assert bound_of([node], [pod] * 3) == pytest.approx(1200)
    # Four tenths go beside each.
    assert bound_of([node], [pod] * 3 + [{**pod, "gpu_milli": 400}]) == pytest.approx(1600)
    assert bound_of([{**node, "cpu_milli": 1500}], [pod] * 3) == pytest.approx(900)
    assert bound_of([{**node, "memory_mib": 512}], [pod]) == 0
    assert bound_of([node], [{**pod, "gpu_spec": "V100"}]) == 0
    assert bound_of([node], [{**pod, "num_gpu": 4, "gpu_milli": 1000}]) == 0
