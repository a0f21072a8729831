"""Pods placed one after the other by one call of the kernel, where it knows all that decides.

What it does is what `Profile.best`, `Profile.compare` and `NodeTable.charge` do for each of them, in their order. A
call of the kernel costs as much as its work for a pod, and what lies between the calls even more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.scheduler.decision.scoring.kernel import MOST, place_alike, place_run
from services.scheduler.decision.scoring.mix import DemandMix
from services.scheduler.decision.scoring.profiles import DIGITS, Profile
from services.scheduler.decision.table.arrays import IntArray, Rows
from services.scheduler.decision.table.nodes import NodeTable


class Taken(NamedTuple):
    """Of each pod the row that it goes to, which is charged with it, and the runner-up or -1; the devices that it has,
    behind which are others; and what `kernel.place_run` tells of both: terms, costs and orders, all of them rounded.
    """

    rows: list[list[int]]
    devices: list[list[int]]
    told: list[list[float]]


def take_places(table: NodeTable, mix: DemandMix, pods: Sequence[Profile]) -> Taken:
    """A place for each pod of these profiles, all of which are `in_kernel`, until one has none; at most `MOST`."""
    numbers: dict[Profile, int] = {}
    which = np.array([numbers.setdefault(profile, len(numbers)) for profile in pods], np.intp)
    profiles = [*numbers]
    arrays = [profile.kernel_arrays for profile in profiles]
    # The kernel takes so many, whoever they are.
    arrays += arrays[:1] * (MOST - len(arrays))
    costs, bases, block_costs, block_rows, opens, asked = zip(*arrays, strict=True)
    log, base = table.usage_log.extend(len(pods), table.rows)
    seen = np.array([profile.usage_seen - base for profile in profiles])
    rows = np.empty((len(pods), 2), np.int64)
    devices = np.empty((len(pods), max([profile.request.devices for profile in profiles]) + 1), np.int64)
    told = np.empty((len(pods), 13), np.float64)
    count, rough = place_run(
        which,
        costs,
        bases,
        block_costs,
        block_rows,
        opens,
        asked,
        seen,
        log,
        table.usage_log.end - base,
        table.order,
        *table.usage,
        table.columns.gpu_column,
        *profiles[0].weights,
        mix.classes,
        mix.frequency,
        mix.leftover,
        rows,
        devices,
        told,
    )
    table.usage_log.end += count
    for profile, position in zip(profiles, seen.tolist(), strict=True):
        profile.usage_seen = base + position
    rounded = told[:count].tolist()
    if rough:
        for item in rounded:
            item[8:12] = [round(number, DIGITS) for number in item[8:12]]
    return Taken(rows[:count].tolist(), devices[:count].tolist(), rounded)


class Counted(NamedTuple):
    """Replicas of a pod set by domain and by cluster, all that it is to have, and the weight of `spread.Spread`."""

    in_domain: IntArray
    in_cluster: IntArray
    desired: int
    weight: float


def take_alike(table: NodeTable, mix: DemandMix, profile: Profile, count: int, counted: Counted) -> Rows:
    """The rows of as many as find a place of `count` pods of a profile that is `in_kernel`, in their order; they are
    charged, which devices they have is not told. As `Profile.best` with what `Spread.costs` says, and
    `NodeTable.charge`.
    """
    profile.refresh()
    cost, base, block_cost, block_row, opens, _ = profile.arrays()
    request = profile.request
    rows = np.empty(count, np.intp)
    placed = place_alike(
        base,
        cost,
        *table.usage,
        request.vector,
        request.floor,
        request.devices,
        request.milli,
        table.columns.gpu_column,
        *profile.weights,
        mix.classes,
        mix.frequency,
        mix.leftover,
        block_cost,
        block_row,
        opens,
        table.block_domain,
        table.domain_cluster,
        counted.in_domain,
        counted.in_cluster,
        # One replica alone is apart from all others.
        counted.weight if counted.desired > 1 else 0.0,
        counted.desired,
        rows,
    )
    rows = rows[:placed]
    log, base_position = table.usage_log.extend(placed, table.rows)
    end = table.usage_log.end
    log[end - base_position : end - base_position + placed] = rows
    table.usage_log.end = profile.usage_seen = end + placed
    return rows
