"""Placing GPU pods by published policies: what `tests.bench.quality` compares the scheduler with.

Random, best-fit and FGD as hkust-adsl/kubernetes-scheduler-simulator has them ("Beware of Fragmentation", Weng et al.,
USENIX ATC '23): scores are whole numbers from 0 to 100, and of equals the first by name is chosen. The score of a shape
on a node is kept until something is placed there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

RANDOM, BEST_FIT, FGD = 0, 1, 2
POLICIES = {"random": RANDOM, "best-fit": BEST_FIT, "fgd": FGD}
DEVICES = 8
WHOLE = 1000
# What the published best-fit divides by: the largest node's cpu and GPUs, in thousandths.
_MAX_CPU, _MAX_GPU = 128_000, 8_000
# Typical pods are the most frequent shapes that make up this part of the list.
_TYPICAL = 0.95

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Scores = npt.NDArray[np.int16]


class Shapes(NamedTuple):
    """The different pods of a list. `what` has cpu, memory, devices and milli by row; `models` the GPU models it may
    have, as bits, 0 for any; `of` is each pod's row, `typical` the frequency of each row among the typical ones."""

    what: Ints
    models: Ints
    of: Ints
    typical: Floats


class Nodes(NamedTuple):
    """`cpu` and `memory` by node, `gpus` free thousandths by node and device, 0 where there is none, `model` a bit."""

    cpu: Ints
    memory: Ints
    gpus: Ints
    model: Ints


def read_nodes(rows: list[dict[str, str]], models: dict[str, int]) -> Nodes:
    """By name: of equals the first by name is chosen, as there."""
    rows = sorted(rows, key=lambda row: row["sn"])
    gpus = np.zeros((len(rows), DEVICES), np.int64)
    for index, row in enumerate(rows):
        gpus[index, : int(row["gpu"])] = WHOLE
    return Nodes(
        np.array([int(row["cpu_milli"]) for row in rows]),
        np.array([int(row["memory_mib"]) for row in rows]),
        gpus,
        np.array([1 << models.setdefault(row["model"], len(models)) for row in rows]),
    )


def read_shapes(rows: list[dict[str, str]], models: dict[str, int]) -> Shapes:
    known: dict[tuple[int, ...], int] = {}
    of = []
    for row in rows:
        devices = int(row["num_gpu"])
        wanted = 0
        for name in row["gpu_spec"].split("|") if row.get("gpu_spec") else ():
            wanted |= 1 << models.setdefault(name, len(models))
        milli = int(row["gpu_milli"]) if devices else 0
        shape = (int(row["cpu_milli"]), int(row["memory_mib"]), devices, milli, wanted)
        of.append(known.setdefault(shape, len(known)))
    what = np.array(list(known))
    return Shapes(what[:, :4].copy(), what[:, 4].copy(), np.array(of), _typical(what, np.array(of)))


def _typical(what: Ints, of: Ints) -> Floats:
    """How often each shape occurs among the typical ones; those that differ in memory alone count as one."""
    kinds: dict[tuple[int, ...], list[int]] = {}
    for index, (cpu, _, devices, milli, models) in enumerate(what.tolist()):
        kinds.setdefault((cpu, devices, milli, models), []).append(index)
    counts = np.bincount(of, minlength=len(what))
    frequency, covered = np.zeros(len(what)), 0
    for indexes in sorted(kinds.values(), key=lambda indexes: -counts[indexes].sum()):
        if covered >= _TYPICAL * len(of):
            break
        covered += int(counts[indexes].sum())
        frequency[indexes[0]] = counts[indexes].sum()
    return np.asarray(frequency / covered)


def place(policy: str, nodes: Nodes, shapes: Shapes, order: Ints, seed: int) -> int:
    """Places the pods, given as rows of `shapes`, one after the other; the thousandths of GPUs that are taken."""
    free = Nodes(nodes.cpu.copy(), nodes.memory.copy(), nodes.gpus.copy(), nodes.model)
    return int(_place(POLICIES[policy], free, shapes, order, np.random.default_rng(seed)))


@njit(cache=True)
def _fits(nodes: Nodes, node: int, shapes: Shapes, shape: int) -> bool:
    cpu, memory, devices, milli = shapes.what[shape]
    if nodes.cpu[node] < cpu or nodes.memory[node] < memory:
        return False
    if not devices:
        return True
    if shapes.models[shape] and not shapes.models[shape] & nodes.model[node]:
        return False
    return bool((nodes.gpus[node] >= milli).sum() >= devices)


@njit(cache=True)
def _fragment(cpu: int, gpus: Ints, model: int, shapes: Shapes) -> float:
    """The expected part of a node's free GPUs, in thousandths, that a typical pod cannot use (FGD, equation 2)."""
    left, total = gpus.sum(), 0.0
    for shape in range(len(shapes.typical)):
        frequency = shapes.typical[shape]
        if frequency == 0.0:
            continue
        needs, milli = shapes.what[shape, 2], shapes.what[shape, 3]
        unusable, enough = 0, 0
        for device in range(DEVICES):
            if gpus[device] >= milli:
                enough += 1
            else:
                unusable += gpus[device]
        accessible = needs > 0 and (shapes.models[shape] == 0 or shapes.models[shape] & model)
        fits = accessible and enough >= needs and cpu >= shapes.what[shape, 0]
        total += frequency * (unusable if fits else left)
    return total


@njit(cache=True)
def _fgd(nodes: Nodes, node: int, shapes: Shapes, shape: int) -> tuple[int, int]:
    """The score of a shape on a node where it fits, and the device that it gets if it shares one."""
    cpu, gpus, model = nodes.cpu[node], nodes.gpus[node].copy(), nodes.model[node]
    before = _fragment(cpu, gpus, model, shapes)
    cpu -= shapes.what[shape, 0]
    devices, milli = shapes.what[shape, 2], shapes.what[shape, 3]
    if devices == 1 and milli < WHOLE:
        best, where = -1, -1
        for device in range(DEVICES):
            if gpus[device] >= milli:
                gpus[device] -= milli
                score = _sigmoid(before - _fragment(cpu, gpus, model, shapes))
                gpus[device] += milli
                if score > best:
                    best, where = score, device
        return best, where
    _take_first(gpus, devices, milli)
    return _sigmoid(before - _fragment(cpu, gpus, model, shapes)), -1


@njit(cache=True)
def _sigmoid(gain: float) -> int:
    return int(100.0 / (1.0 + np.exp(-gain / 1000)))


@njit(cache=True)
def _score(policy: int, nodes: Nodes, node: int, shapes: Shapes, shape: int) -> tuple[int, int]:
    """From 0 to 100, and the device for FGD; -1 where the shape does not fit."""
    if not _fits(nodes, node, shapes, shape):
        return -1, -1
    if policy == RANDOM:
        return 0, -1
    if policy == FGD:
        return _fgd(nodes, node, shapes, shape)
    cpu, _, devices, milli = shapes.what[shape]
    idle = nodes.gpus[node].sum() - devices * milli
    unused = 0.5 * (nodes.cpu[node] - cpu) / _MAX_CPU + 0.5 * idle / _MAX_GPU
    return int((1.0 - unused) * 100), -1


@njit(cache=True)
def _take_first(gpus: Ints, devices: int, milli: int) -> None:
    for device in range(DEVICES):
        if devices and gpus[device] >= milli:
            gpus[device] -= milli
            devices -= 1


@njit(cache=True)
def _shared_device(policy: int, gpus: Ints, milli: int, random: np.random.Generator) -> int:
    """Any for random, else the tightest."""
    chosen, seen = -1, 0
    for device in range(DEVICES):
        if gpus[device] < milli:
            continue
        seen += 1
        tighter = chosen < 0 or gpus[device] < gpus[chosen]
        if (random.integers(0, seen) == 0) if policy == RANDOM else tighter:
            chosen = device
    return chosen


@njit(cache=True)
def _best(policy: int, scores: Scores, random: np.random.Generator) -> int:
    """The first node of the highest score, or any of them for random; -1 where it fits none."""
    best, chosen, equals = -1, -1, 0
    for node in range(len(scores)):
        if scores[node] > best:
            best, chosen, equals = scores[node], node, 1
        elif policy == RANDOM and scores[node] == best and best >= 0:
            equals += 1
            if random.integers(0, equals) == 0:
                chosen = node
    return chosen


@njit(cache=True)
def _place(policy: int, nodes: Nodes, shapes: Shapes, order: Ints, random: np.random.Generator) -> int:
    kinds, count = len(shapes.what), len(nodes.cpu)
    scores, devices = np.empty((kinds, count), np.int16), np.empty((kinds, count), np.int8)
    for shape in range(kinds):
        for node in range(count):
            scores[shape, node], devices[shape, node] = _score(policy, nodes, node, shapes, shape)
    taken = 0
    for shape in order:
        node = _best(policy, scores[shape], random)
        if node < 0:
            continue
        cpu, memory, wanted, milli = shapes.what[shape]
        nodes.cpu[node] -= cpu
        nodes.memory[node] -= memory
        if wanted == 1 and milli < WHOLE:
            gpus = nodes.gpus[node]
            gpus[devices[shape, node] if policy == FGD else _shared_device(policy, gpus, milli, random)] -= milli
        else:
            _take_first(nodes.gpus[node], wanted, milli)
        taken += wanted * milli
        for other in range(kinds):
            scores[other, node], devices[other, node] = _score(policy, nodes, node, shapes, other)
    return taken


def draw(shapes: Shapes, capacity: int, seed: int) -> Ints:
    """The list, with pods of it left out or drawn once more until they ask for `capacity` thousandths; shuffled."""
    random = np.random.default_rng(seed)
    asks = shapes.what[:, 2] * shapes.what[:, 3]
    pods = random.permutation(shapes.of).tolist()
    total = int(asks[pods].sum())
    while total > capacity:
        total -= int(asks[pods.pop()])
    while True:
        pod = int(shapes.of[random.integers(len(shapes.of))])
        if total + asks[pod] > capacity:
            break
        total += int(asks[pod])
        pods.append(pod)
    return np.asarray(random.permutation(pods))
