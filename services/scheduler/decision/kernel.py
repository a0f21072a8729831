"""The inner loop of scheduling, compiled: what rows of the node table cost one request, and the cheapest of each block.

After every placement a handful of rows changed for each request. NumPy needs some thirty calls for them, each of which
costs more than the rows; this is one call of a few microseconds. The filters here are `filters.ResourcesAreFree` and
`filters.DevicesAreFree`, the cost terms those that depend on what runs on a node. Sums keep their order, on 64-bit
numbers, so a choice is the same everywhere, and equal to the last bit to a plain re-implementation in Python
(`tests/property/scheduler/test_exactness.py`).

Compiled when this is imported, for the types that are stated, so that no decision waits for a compiler. The result is
kept in numba's cache where there is a place for it (beside this file, the user's cache, or NUMBA_CACHE_DIR).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

from services.scheduler.decision.arrays import BLOCK, FloatArray, IntArray, Rows
from services.scheduler.decision.devices import DeviceArray

F = TypeVar("F", bound=Callable[..., Any])

_INF = float("inf")
# rows; then what `usage_cost` is told of the profile, the node table, the request, and the configuration.
_ROWS = "int64[::1]"
_BLOCKS = "float64[::1], int64[::1]"
_USAGE = (
    "float64[::1], float64[::1], int64[:, ::1], int64[:, ::1], float64[:, ::1], int16[:, ::1], "
    "int64[::1], int64[::1], int64, int64, int64, float64[::1], boolean"
)


def _compiled(signature: str) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        try:
            return cast("F", njit(signature, cache=True)(function))
        except RuntimeError:
            # There is nowhere to keep the result.
            return cast("F", njit(signature)(function))

    return decorate


@_compiled("boolean(int64, int64[:, ::1], int64[::1])")
def _is_free(row: int, free: IntArray, floor: IntArray) -> bool:
    for column in range(floor.shape[0]):  # noqa: SIM110 - numba compiles loops, not generators
        if free[row, column] < floor[column]:
            return False
    return True


@_compiled("int64(int64, int16[:, ::1], int64)")
def _fitting(row: int, devices_free: DeviceArray, milli: int) -> int:
    """How many devices have room for `milli` thousandths."""
    count = 0
    for device in range(devices_free.shape[1]):
        count += devices_free[row, device] >= milli
    return count


@_compiled(f"void({_ROWS}, {_USAGE})")
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
) -> None:
    """Writes `cost[rows]`: infinite where a pod does not fit, else `base` plus three weighted terms, each in [0, 1].

    - fit: the mean part of cpu and memory that would be free (`most_allocated`) or taken, with this pod;
    - balance: the standard deviation of the parts of cpu and memory that would be taken, as in kube-scheduler's
      NodeResourcesBalancedAllocation;
    - fragmentation: the part of the node's GPUs that would stay free. Pods with GPUs go where the fewest are left; pods
      without go where they strand none, since they take cpu and memory that GPUs need.

    `vector` is what a pod takes, by resource column, and `floor` what must be free; it asks for `devices` GPUs,
    `milli` thousandths of each. `weights` are those of the terms, in this order. `gpu_column` is -1 where no node has
    GPUs. The other arrays are the node table's, see `nodes.NodeTable.usage`.
    """
    for row in rows:
        total = base[row]
        cost[row] = _INF
        if total == _INF or not _is_free(row, free, floor):
            continue
        if devices and _fitting(row, devices_free, milli) < devices:
            continue
        cpu = min((vector[0] - free[row, 0] + native[row, 0]) / native[row, 2], 1.0)
        memory = min((vector[1] - free[row, 1] + native[row, 1]) / native[row, 3], 1.0)
        taken = (cpu + memory) * 0.5
        total += (1.0 - taken if most_allocated else taken) * weights[0]
        total += abs(cpu - memory) * 0.5 * weights[1]
        if gpu_column >= 0:
            rest = max(free[row, gpu_column] - vector[gpu_column], 0)
            left = rest / max(allocatable[row, gpu_column], 1)
            total += left * weights[2]
        cost[row] = total


@_compiled(f"void({_ROWS}, float64[::1], {_BLOCKS})")
def renew_blocks(rows: Rows, cost: FloatArray, block_cost: FloatArray, block_row: Rows) -> None:
    """Brings the cheapest row of each block up to date when the costs of `rows` changed; of equals it is the first."""
    for row in rows:
        block, value = row // BLOCK, cost[row]
        if block_row[block] == row:
            where = block * BLOCK
            for other in range(where + 1, (block + 1) * BLOCK):
                if cost[other] < cost[where]:
                    where = other
            block_cost[block], block_row[block] = cost[where], where
        elif value < block_cost[block] or (value == block_cost[block] and row < block_row[block]):
            block_cost[block], block_row[block] = value, row


@_compiled(f"void({_ROWS}, {_BLOCKS}, {_USAGE})")
def renew(
    rows: Rows,
    block_cost: FloatArray,
    block_row: Rows,
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
) -> None:
    """`usage_cost` and `renew_blocks` in one call."""
    usage_cost(
        rows,
        base,
        cost,
        free,
        allocatable,
        native,
        devices_free,
        vector,
        floor,
        devices,
        milli,
        gpu_column,
        weights,
        most_allocated,
    )
    renew_blocks(rows, cost, block_cost, block_row)
