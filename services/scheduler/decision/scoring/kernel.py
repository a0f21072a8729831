"""The inner loop of scheduling, compiled: what rows of the node table cost one request, and the cheapest of each block.

After every placement a handful of rows changed for each request. NumPy needs some thirty calls for them, each of which
costs more than the rows; these are two calls of a few microseconds. The filters here are kube-scheduler's
NodeResourcesFit, and whether single GPUs have enough of their parts free; the cost terms are those that depend on what
runs on a node. Sums keep their order, on 64-bit numbers, so a choice is the same everywhere, and equal to the last bit
to a plain re-implementation in Python (`tests/property/scheduler/test_exactness.py`).

Compiled when this is imported, for the types that are stated, so that no decision waits for a compiler. The result is
kept in numba's cache where there is a place for it (beside this file, the user's cache, or NUMBA_CACHE_DIR). All of it
is in one file, since numba compiles anew what is cached when its own file changes, and not when one does that it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

from services.scheduler.decision.scoring.costs import TIE_WEIGHT
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray, IntArray, Rows
from services.scheduler.decision.table.devices import ABSENT, DeviceArray
from shared.model.pods import WHOLE_DEVICE

F = TypeVar("F", bound=Callable[..., Any])

_INF = float("inf")
# The change of a node's fragment that makes the term 0 or 1: what eight GPUs have, down or up.
_WHOLE_NODE = 16_000.0
# How much what is left over counts beside what is of no use at once. From 0.1 to 0.5 it matters little.
_PACKED = 0.1
# How likely nothing more comes for a device, to one for the next pod of the mix. Tried: 0.05, 0.1, 0.2 (ADR 0018).
_NOTHING = 0.1
# Up to the largest a product is off by a hundredth of the margin at most, which the middle is left with on both sides.
_MIDDLE, _MARGIN, _LARGEST = 0.5, 1e-3, 1e11
# So many pods are placed by one call of `place_run`, at most.
MOST = 16
# rows; then what `usage_cost` is told of the profile, the node table, the request, and the configuration.
_ROWS = "int64[::1]"
_BLOCKS = "float64[::1], int64[::1]"
_USAGE = (
    "float64[::1], float64[::1], int64[:, ::1], int64[:, ::1], float64[:, ::1], int16[:, ::1], "
    "int64[::1], int64[::1], int64, int64, int64, float64[::1], boolean, int64[:, ::1], float64[::1], float64[::1]"
)
# The same without what is written, and without what must be free.
_TERMS = (
    "int64[:, ::1], int64[:, ::1], float64[:, ::1], int16[:, ::1], "
    "int64[::1], int64, int64, int64, float64[::1], boolean, int64[:, ::1], float64[::1], float64[::1]"
)
# Costs of blocks and of rows, as `Profile` keeps them.
_COSTS = "float64[::1], int64[::1], float64[::1], float64[::1], float64[::1], float64"
_Terms = tuple[float, float, float, float]
# What depends on what runs on a node, in the order of their weights.
USAGE_TERMS = ("fit", "balance", "fragmentation", "expected_fragmentation")


def compiled(signature: str) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        try:
            return cast("F", njit(signature, cache=True)(function))
        except (RuntimeError, OSError):
            # There is nowhere to keep the result, or nothing can be added there (`services/scheduler/baked_cache.py`).
            return cast("F", njit(signature)(function))

    return decorate


@compiled("boolean(int64, int64[:, ::1], int64[::1])")
def _is_free(row: int, free: IntArray, floor: IntArray) -> bool:
    for column in range(floor.shape[0]):  # noqa: SIM110 - numba compiles loops, not generators
        if free[row, column] < floor[column]:
            return False
    return True


@compiled("int64(int64, int16[:, ::1], int64)")
def _fitting(row: int, devices_free: DeviceArray, milli: int) -> int:
    """How many devices have room for `milli` thousandths."""
    count = 0
    for device in range(devices_free.shape[1]):
        count += devices_free[row, device] >= milli
    return count


@compiled("void(int16[::1], int64, int64, int64[::1])")
def _take(free: DeviceArray, devices: int, milli: int, chosen: IntArray) -> None:
    """As `devices.DeviceTable.take`: the tightest devices that fit, and they do fit. `chosen` names them, then -1."""
    taken = np.zeros(len(free), np.bool_)
    for number in range(devices):
        tightest = -1
        for device in range(len(free)):
            fits = not taken[device] and free[device] >= milli
            if fits and (tightest < 0 or free[device] < free[tightest]):
                tightest = device
        taken[tightest] = True
        free[tightest] -= milli
        chosen[number] = tightest
    chosen[devices] = -1


@compiled("int16[::1](int16[::1], int64, int64)")
def _taken(devices_free: DeviceArray, devices: int, milli: int) -> DeviceArray:
    """What is free behind `_take`."""
    left = devices_free.copy()
    _take(left, devices, milli, np.empty(devices + 1, np.int64))
    return left


@compiled("float64[::1](int64[:, ::1], float64[::1])")
def expected_leftover(mix: IntArray, frequency: FloatArray) -> FloatArray:
    """What is left over of a device in the end, by what is free of it now, in thousandths: an expectation.

    One share after the other comes as pods of the mix ask for them. One that does not fit goes elsewhere, and with a
    chance of `_NOTHING` to one nothing comes any more.
    """
    leftover = np.zeros(WHOLE_DEVICE + 1, np.float64)
    for free in range(1, WHOLE_DEVICE + 1):
        expected, chance = _NOTHING * free, _NOTHING
        for kind in range(len(frequency)):
            _, devices, milli = mix[kind]
            if milli <= free:
                weight = frequency[kind] * devices
                expected += weight * leftover[free - milli]
                chance += weight
        leftover[free] = expected / chance
    return leftover


@compiled("float64(int16[::1], int64, int64[:, ::1], float64[::1], float64[::1])")
def expected_fragment(
    devices_free: DeviceArray, cpu: int, mix: IntArray, frequency: FloatArray, leftover: FloatArray
) -> float:
    """The expected part of a node's free GPUs, in thousandths, that is of no use to a pod of the mix, and the part that
    is left over in the end.

    For a pod that does not fit that is all of them. For one that fits it is what it could not be given, the devices
    with less room than it needs; and, to the part `_PACKED`, what is left over when as many such pods are there as
    devices and cpu allow. The former is the measure of FGD ("Beware of Fragmentation", Weng et al., USENIX ATC '23,
    equation 2); the latter sees that cpu will strand GPUs before it does. Then what each device is expected to have
    left in the end, by what is free of it now: `leftover`, from `expected_leftover`.
    """
    left, total = 0, 0.0
    for device in range(len(devices_free)):
        left += max(devices_free[device], 0)
        total += leftover[max(devices_free[device], 0)]
    for kind in range(len(frequency)):
        asked_cpu, devices, milli = mix[kind]
        unusable, fitting, slots = 0, 0, 0
        for device in range(len(devices_free)):
            if devices_free[device] >= milli:
                fitting += 1
                slots += devices_free[device] // milli
            else:
                unusable += max(devices_free[device], 0)
        if fitting < devices or cpu < asked_cpu:
            total += frequency[kind] * left
            continue
        pods = float(slots // devices)
        if asked_cpu:
            # Parts of pods count: who takes cpu pays for it before it is too late for another pod.
            pods = min(pods, cpu / asked_cpu)
        stranded = left - pods * (devices * milli)
        total += frequency[kind] * ((1.0 - _PACKED) * unusable + _PACKED * stranded)
    return total


@compiled("float64(int64, int64, float64, float64)")
def _part_taken(asked: int, free: int, capacity: float, divisor: float) -> float:
    """Which part of a node would be taken, with what is asked."""
    return min((asked - free + capacity) / divisor, 1.0)


@compiled("UniTuple(float64, 2)(float64, float64, boolean)")
def _fit_and_balance(cpu: float, memory: float, most_allocated: bool) -> tuple[float, float]:
    """By the parts of both that would be taken; see `usage_cost`."""
    taken = (cpu + memory) * 0.5
    return 1.0 - taken if most_allocated else taken, abs(cpu - memory) * 0.5


@compiled("float64(int64, int64, int64)")
def _part_left(asked: int, free: int, allocatable: int) -> float:
    """Which part of a node's GPUs would stay free."""
    return max(free - asked, 0) / max(allocatable, 1)


@compiled(
    "float64(int64, int64[:, ::1], int16[:, ::1], int64[::1], int64, int64, int64[:, ::1], float64[::1], float64[::1])"
)
def _expected_term(
    row: int,
    free: IntArray,
    devices_free: DeviceArray,
    vector: IntArray,
    devices: int,
    milli: int,
    mix: IntArray,
    frequency: FloatArray,
    leftover: FloatArray,
) -> float:
    """The last of `USAGE_TERMS`."""
    if not devices_free.shape[1] or devices_free[row, 0] == ABSENT:
        return 0.0
    before = expected_fragment(devices_free[row], free[row, 0], mix, frequency, leftover)
    rest_free = _taken(devices_free[row], devices, milli)
    after = expected_fragment(rest_free, free[row, 0] - vector[0], mix, frequency, leftover)
    return min(max(0.5 + (after - before) / _WHOLE_NODE, 0.0), 1.0)


@compiled(f"UniTuple(float64, 4)(int64, {_TERMS})")
def usage_terms(
    row: int,
    free: IntArray,
    allocatable: IntArray,
    native: FloatArray,
    devices_free: DeviceArray,
    vector: IntArray,
    devices: int,
    milli: int,
    gpu_column: int,
    weights: FloatArray,
    most_allocated: bool,
    mix: IntArray,
    frequency: FloatArray,
    leftover: FloatArray,
) -> tuple[float, float, float, float]:
    """The terms of `USAGE_TERMS`, each in [0, 1], of a row where the pod fits; see `usage_cost`."""
    cpu = _part_taken(vector[0], free[row, 0], native[row, 0], native[row, 2])
    memory = _part_taken(vector[1], free[row, 1], native[row, 1], native[row, 3])
    fit, balance = _fit_and_balance(cpu, memory, most_allocated)
    left, expected = 0.0, 0.0
    if gpu_column >= 0:
        left = _part_left(vector[gpu_column], free[row, gpu_column], allocatable[row, gpu_column])
    if weights[3]:
        expected = _expected_term(row, free, devices_free, vector, devices, milli, mix, frequency, leftover)
    return fit, balance, left, expected


@compiled(f"void({_ROWS}, {_USAGE})")
def usage_cost(
    rows: Rows,
    base: FloatArray,
    cost: FloatArray,
    free: IntArray,
    allocatable: IntArray,
    native: FloatArray,
    devices_free: DeviceArray,
    vector: IntArray,
    floor: IntArray,
    devices: int,
    milli: int,
    gpu_column: int,
    weights: FloatArray,
    most_allocated: bool,
    mix: IntArray,
    frequency: FloatArray,
    leftover: FloatArray,
) -> None:
    """Writes `cost[rows]`: infinite where a pod does not fit, else `base` plus the weighted terms, each in [0, 1].

    - fit: the mean part of cpu and memory that would be free (`most_allocated`) or taken, with this pod;
    - balance: the standard deviation of the parts of cpu and memory that would be taken, as in kube-scheduler's
      NodeResourcesBalancedAllocation;
    - fragmentation: the part of the node's GPUs that would stay free. Pods with GPUs go where the fewest are left; pods
      without go where they strand none, since they take cpu and memory that GPUs need;
    - expected fragmentation: by how much `expected_fragment` of the node's GPUs would change; 0.5 where it would not.

    `vector` is what a pod takes, by resource column, and `floor` what must be free; it asks for `devices` GPUs,
    `milli` thousandths of each. `weights` are those of the terms, in this order. `gpu_column` is -1 where no node has
    GPUs; `mix`, `frequency` and `leftover` are those of `mix.DemandMix`. The other arrays are the node table's, see
    `nodes.NodeTable.usage`.
    """
    for row in rows:
        total = base[row]
        cost[row] = _INF
        if total == _INF or not _is_free(row, free, floor):
            continue
        if devices and _fitting(row, devices_free, milli) < devices:
            continue
        cpu = _part_taken(vector[0], free[row, 0], native[row, 0], native[row, 2])
        memory = _part_taken(vector[1], free[row, 1], native[row, 1], native[row, 3])
        fit, balance = _fit_and_balance(cpu, memory, most_allocated)
        total += fit * weights[0]
        total += balance * weights[1]
        if gpu_column >= 0:
            total += _part_left(vector[gpu_column], free[row, gpu_column], allocatable[row, gpu_column]) * weights[2]
        if weights[3]:
            expected = _expected_term(row, free, devices_free, vector, devices, milli, mix, frequency, leftover)
            total += expected * weights[3]
        cost[row] = total


@compiled("void(int64, float64[::1], float64[::1], int64[::1])")
def _renew_block(block: int, cost: FloatArray, block_cost: FloatArray, block_row: Rows) -> None:
    where = block * BLOCK
    for other in range(where + 1, (block + 1) * BLOCK):
        if cost[other] < cost[where]:
            where = other
    block_cost[block], block_row[block] = cost[where], where


@compiled(f"void({_ROWS}, float64[::1], {_BLOCKS})")
def renew_blocks(rows: Rows, cost: FloatArray, block_cost: FloatArray, block_row: Rows) -> None:
    """Brings the cheapest row of each block up to date when the costs of `rows` changed; of equals it is the first."""
    for row in rows:
        block, value = row // BLOCK, cost[row]
        if block_row[block] == row:
            _renew_block(block, cost, block_cost, block_row)
        elif value < block_cost[block] or (value == block_cost[block] and row < block_row[block]):
            block_cost[block], block_row[block] = value, row


@compiled(f"void({_ROWS}, {_USAGE}, {_BLOCKS})")
def renew(
    rows: Rows,
    base: FloatArray,
    cost: FloatArray,
    free: IntArray,
    allocatable: IntArray,
    native: FloatArray,
    devices_free: DeviceArray,
    vector: IntArray,
    floor: IntArray,
    devices: int,
    milli: int,
    gpu_column: int,
    weights: FloatArray,
    most_allocated: bool,
    mix: IntArray,
    frequency: FloatArray,
    leftover: FloatArray,
    block_cost: FloatArray,
    block_row: Rows,
) -> None:
    """`usage_cost` and then `renew_blocks`, in one call."""
    rest = (free, allocatable, native, devices_free, vector, floor, devices, milli, gpu_column, weights, most_allocated)
    usage_cost(rows, base, cost, *rest, mix, frequency, leftover)
    renew_blocks(rows, cost, block_cost, block_row)


@compiled(f"void({_ROWS}, boolean[::1], float64[::1], float64[::1], float64[::1], {_BLOCKS})")
def add_parts(
    rows: Rows,
    stirred: BoolArray,
    alone: FloatArray,
    part: FloatArray,
    cost: FloatArray,
    block_cost: FloatArray,
    block_row: Rows,
) -> None:
    """`cost[rows]` from what they cost `alone` and the `part` that is added to it, and of all rows of blocks that are
    `stirred`, which none are any more then; and the cheapest rows of the blocks.
    """
    for row in rows:
        cost[row] = alone[row] + part[row]
    if len(rows) < len(cost) // 4:
        renew_blocks(rows, cost, block_cost, block_row)
    else:
        for block in range(len(block_cost)):
            _renew_block(block, cost, block_cost, block_row)
    for block in range(len(stirred)):
        if stirred[block]:
            stirred[block] = False
            for row in range(block * BLOCK, (block + 1) * BLOCK):
                cost[row] = alone[row] + part[row]
            _renew_block(block, cost, block_cost, block_row)


@compiled(f"void({_ROWS}, int64, {_USAGE}, boolean[::1], float64[::1], float64[::1], {_BLOCKS})")
def renew_beside(
    rows: Rows,
    moved: int,
    base: FloatArray,
    alone: FloatArray,
    free: IntArray,
    allocatable: IntArray,
    native: FloatArray,
    devices_free: DeviceArray,
    vector: IntArray,
    floor: IntArray,
    devices: int,
    milli: int,
    gpu_column: int,
    weights: FloatArray,
    most_allocated: bool,
    mix: IntArray,
    frequency: FloatArray,
    leftover: FloatArray,
    stirred: BoolArray,
    part: FloatArray,
    cost: FloatArray,
    block_cost: FloatArray,
    block_row: Rows,
) -> None:
    """`usage_cost` of the first rows, as many as `moved`, and then `add_parts` of all of them."""
    rest = (free, allocatable, native, devices_free, vector, floor, devices, milli, gpu_column, weights, most_allocated)
    usage_cost(rows[:moved], base, alone, *rest, mix, frequency, leftover)
    add_parts(rows, stirred, alone, part, cost, block_cost, block_row)


@compiled(
    f"int64({_ROWS}, {_ROWS}, {_ROWS}, int64, float64[::1], int64[:, ::1], int16[:, ::1], int64[::1], int64[::1], "
    "int64, int64, boolean, int64[:, ::1], boolean[:, ::1], int64[::1], int64[::1], float64[::1], int64[::1])"
)
def shortages(
    rows: Rows,
    block_cluster: Rows,
    node_class: Rows,
    classes: int,
    order: FloatArray,
    free: IntArray,
    devices_free: DeviceArray,
    vector: IntArray,
    floor: IntArray,
    devices: int,
    milli: int,
    missing: bool,
    refused: IntArray,
    lacks: BoolArray,
    by_column: IntArray,
    closest: Rows,
    parts: FloatArray,
    passing: Rows,
) -> int:
    """Of `rows`, which are refused for their resources or, where these are enough, for their devices.

    Written, by the number of cluster and class: how many (`refused[0]` and `[1]`), in which columns any of the former
    lacks something, which of them is `closest`, and which part of what is asked it lacks; by column, how many lack
    something there; and the rows that pass, whose number is returned. `missing`: no node has all resources.
    """
    count = 0
    for row in rows:
        code = block_cluster[row // BLOCK] * classes + node_class[row]
        enough, part = not missing, 0.0
        for column in range(len(vector)):
            if free[row, column] < floor[column]:
                enough = False
                lacks[code, column] = True
                by_column[column] += 1
            if vector[column] > 0:
                part += max(vector[column] - free[row, column], 0) / vector[column]
        if not enough:
            refused[0, code] += 1
            best = closest[code]
            if best < 0 or part < parts[code] or (part == parts[code] and order[row] < order[best]):
                closest[code], parts[code] = row, part
        elif devices and _fitting(row, devices_free, milli) < devices:
            refused[1, code] += 1
        else:
            passing[count] = row
            count += 1
    return count


@compiled("Tuple((float64, boolean))(float64)")
def rounded_as_python(value: float) -> tuple[float, bool]:
    """What `round(value, 6)` gives, and whether that is sure; if not, the value as it is.

    Of the decimal number that is nearest, the nearest float is what one division gives, since both its operands are
    exact. In doubt is which decimal number is nearest where the product, itself rounded, is close to the middle.
    """
    product = value * 1e6
    whole = np.floor(product)
    if not 0.0 <= product < _LARGEST or abs(product - whole - _MIDDLE) < _MARGIN:
        return value, False
    return (whole + (product - whole > _MIDDLE)) / 1e6, True


@compiled("float64(float64)")
def _rounded(value: float) -> float:
    return float(np.floor(value * 1e6 + 0.5)) / 1e6


@compiled(
    f"Tuple((int64, UniTuple(float64, 4), UniTuple(float64, 4), UniTuple(float64, 6)))(int64, {_COSTS}, {_TERMS})"
)
def compare(
    row: int,
    block_cost: FloatArray,
    block_row: Rows,
    cost: FloatArray,
    base: FloatArray,
    order: FloatArray,
    extra: float,
    free: IntArray,
    allocatable: IntArray,
    native: FloatArray,
    devices_free: DeviceArray,
    vector: IntArray,
    devices: int,
    milli: int,
    gpu_column: int,
    weights: FloatArray,
    most_allocated: bool,
    mix: IntArray,
    frequency: FloatArray,
    leftover: FloatArray,
) -> tuple[int, _Terms, _Terms, tuple[float, float, float, float, float, float]]:
    """The cheapest row but `row`, or -1; the `usage_terms` of both, rounded to six digits; and `cost`, `base`
    and `order` of one and the other.

    `extra` is what the costs of `row`'s block have in `block_cost` beside those of its rows. Where there is no other
    row, `row` itself stands for it. All in one call, since most of a call is its arguments.
    """
    own, best, other = row // BLOCK, _INF, -1
    for near in range(own * BLOCK, (own + 1) * BLOCK):
        if near != row and cost[near] + extra < best:
            best, other = cost[near] + extra, near
    for block in range(len(block_cost)):
        if block != own and block_cost[block] < best:
            best, other = block_cost[block], block_row[block]
    second = other if other >= 0 else row
    rest = (free, allocatable, native, devices_free, vector, devices, milli, gpu_column, weights, most_allocated)
    here, there = (
        usage_terms(row, *rest, mix, frequency, leftover),
        usage_terms(second, *rest, mix, frequency, leftover),
    )
    here = (_rounded(here[0]), _rounded(here[1]), _rounded(here[2]), _rounded(here[3]))
    there = (_rounded(there[0]), _rounded(there[1]), _rounded(there[2]), _rounded(there[3]))
    return other, here, there, (cost[row], cost[second], base[row], base[second], order[row], order[second])


@compiled(
    f"Tuple((int64, int64, UniTuple(float64, 4), UniTuple(float64, 4), UniTuple(float64, 6)))"
    f"(boolean[::1], float64[::1], {_BLOCKS}, float64[::1], float64[::1], float64[::1], {_TERMS})"
)
def choose(
    opens: BoolArray,
    extra: FloatArray,
    block_cost: FloatArray,
    block_row: Rows,
    cost: FloatArray,
    base: FloatArray,
    order: FloatArray,
    free: IntArray,
    allocatable: IntArray,
    native: FloatArray,
    devices_free: DeviceArray,
    vector: IntArray,
    devices: int,
    milli: int,
    gpu_column: int,
    weights: FloatArray,
    most_allocated: bool,
    mix: IntArray,
    frequency: FloatArray,
    leftover: FloatArray,
) -> tuple[int, int, _Terms, _Terms, tuple[float, float, float, float, float, float]]:
    """The cheapest row of the blocks that are `opens`, -1 where there is none; and what `compare` says of it. `extra`
    is what all rows of each block cost beside `cost`.
    """
    of_blocks = np.where(opens, block_cost + extra, _INF)
    block = of_blocks.argmin()
    row = block_row[block] if of_blocks[block] != _INF else -1
    terms = (free, allocatable, native, devices_free, vector, devices, milli, gpu_column, weights, most_allocated)
    other, here, there, numbers = compare(
        max(row, 0), of_blocks, block_row, cost, base, order, extra[block], *terms, mix, frequency, leftover
    )
    return row, other, here, there, numbers


@compiled(
    f"UniTuple(int64, 2)({_ROWS}, UniTuple(float64[::1], {MOST}), UniTuple(float64[::1], {MOST}), "
    f"UniTuple(float64[::1], {MOST}), UniTuple(int64[::1], {MOST}), UniTuple(boolean[::1], {MOST}), "
    f"UniTuple(int64[::1], {MOST}), "
    "int64[::1], int64[::1], int64, float64[::1], int64[:, ::1], int64[:, ::1], float64[:, ::1], "
    "int16[:, ::1], int64, float64[::1], boolean, int64[:, ::1], float64[::1], float64[::1], int64[:, ::1], "
    "int64[:, ::1], float64[:, ::1])"
)
def place_run(
    which: Rows,
    costs: tuple[FloatArray, ...],
    bases: tuple[FloatArray, ...],
    block_costs: tuple[FloatArray, ...],
    block_rows: tuple[Rows, ...],
    opens: tuple[BoolArray, ...],
    asks: tuple[IntArray, ...],
    seen: IntArray,
    log: Rows,
    end: int,
    order: FloatArray,
    free: IntArray,
    allocatable: IntArray,
    native: FloatArray,
    devices_free: DeviceArray,
    gpu_column: int,
    weights: FloatArray,
    most_allocated: bool,
    mix: IntArray,
    frequency: FloatArray,
    leftover: FloatArray,
    rows: IntArray,
    taken: IntArray,
    told: FloatArray,
) -> tuple[int, int]:
    """Places one pod after the other, each of the profile that `which` says: renews what changed for it, takes the
    cheapest row of the blocks that are `opens`, compares it as `compare` does, and takes the pod's room there. Returns
    how many found a place, since it ends with the first that does not, and how many costs and orders are not rounded.

    The arrays of `Profile` come for each profile, the last of them `Request.told`; `seen` is how far in `log`, which
    ends at `end`, each has followed what changed, and moves on. The log goes on with the rows that are taken. Written
    are the row and the runner-up (`rows`), the devices (`taken`, -1 behind the last), and what is `told` of both: the
    eight terms as `compare` has them, costs and orders as Python rounds them, and whether anything but the order is in
    their bases.
    """
    rough = 0
    for item in range(len(which)):
        profile = which[item]
        cost, base, block_cost, block_row = costs[profile], bases[profile], block_costs[profile], block_rows[profile]
        request, width = asks[profile], free.shape[1]
        vector, floor = request[:width], request[width : 2 * width]
        asked, part = request[2 * width], request[2 * width + 1]
        changed = log[seen[profile] : end]
        usage = (free, allocatable, native, devices_free, vector, floor, asked, part, gpu_column, weights)
        usage_cost(changed, base, cost, *usage, most_allocated, mix, frequency, leftover)
        renew_blocks(changed, cost, block_cost, block_row)
        seen[profile] = end
        of_blocks = np.where(opens[profile], block_cost, _INF)
        block = of_blocks.argmin()
        if of_blocks[block] == _INF:
            return item, rough
        row = block_row[block]
        terms = (free, allocatable, native, devices_free, vector, asked, part, gpu_column, weights, most_allocated)
        other, here, there, numbers = compare(
            row, of_blocks, block_row, cost, base, order, 0.0, *terms, mix, frequency, leftover
        )
        rows[item, 0], rows[item, 1] = row, other
        for term in range(4):
            told[item, term], told[item, 4 + term] = here[term], there[term]
        for place, number in ((8, 0), (9, 1), (10, 4), (11, 5)):
            told[item, place], sure = rounded_as_python(numbers[number])
            rough += not sure
        told[item, 12] = numbers[2] != TIE_WEIGHT * numbers[4] or numbers[3] != TIE_WEIGHT * numbers[5]
        for column in range(len(vector)):
            free[row, column] -= vector[column]
        taken[item, 0] = -1
        if asked:
            _take(devices_free[row], asked, part, taken[item])
        log[end] = row
        end += 1
    return len(which), rough


@compiled(
    f"int64({_USAGE}, {_BLOCKS}, boolean[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64, int64, {_ROWS})"
)
def place_alike(
    base: FloatArray,
    cost: FloatArray,
    free: IntArray,
    allocatable: IntArray,
    native: FloatArray,
    devices_free: DeviceArray,
    vector: IntArray,
    floor: IntArray,
    devices: int,
    milli: int,
    gpu_column: int,
    weights: FloatArray,
    most_allocated: bool,
    mix: IntArray,
    frequency: FloatArray,
    leftover: FloatArray,
    block_cost: FloatArray,
    block_row: Rows,
    opens: BoolArray,
    block_domain: Rows,
    domain_cluster: Rows,
    in_domain: IntArray,
    in_cluster: IntArray,
    spread: float,
    desired: int,
    rows: Rows,
) -> int:
    """Places pods of one profile, which is up to date, until one finds no place or `rows`, which is written, is full.
    Returns how many were placed; their room is taken.

    `in_domain` and `in_cluster` count the replicas of their pod set, which has `desired` in all: what `spread.Spread`
    costs by these, with the weight `spread`, is added to each block. They go on with what is placed.
    """
    renewed = np.empty(1, np.intp)
    rest = (free, allocatable, native, devices_free, vector, floor, devices, milli, gpu_column, weights, most_allocated)
    for item in range(len(rows)):
        least, block = _INF, -1
        for other in range(len(block_cost)):
            if opens[other]:
                total = block_cost[other]
                if spread:
                    domain = block_domain[other]
                    together = in_cluster[domain_cluster[domain]] + in_domain[domain]
                    total += spread * (together / (2 * desired))
                if total < least:
                    least, block = total, other
        if block < 0:
            return item
        row = block_row[block]
        rows[item] = row
        for column in range(len(vector)):
            free[row, column] -= vector[column]
        if devices:
            _take(devices_free[row], devices, milli, np.empty(devices + 1, np.int64))
        in_domain[block_domain[block]] += 1
        in_cluster[domain_cluster[block_domain[block]]] += 1
        renewed[0] = row
        renew(renewed, base, cost, *rest, mix, frequency, leftover, block_cost, block_row)
    return len(rows)
