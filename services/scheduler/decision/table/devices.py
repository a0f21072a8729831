"""What is free on each GPU of each node.

A pod fits only if its devices do: four tenths on each of two GPUs are no room for eight tenths of one. Which device
a pod has is known for the pods that this scheduler placed, in the order in which it placed them: the tightest that
fits. Of pods that it did not place the same is assumed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.scheduler.decision.table.arrays import IntArray, Rows, grown
from shared.model.pods import WHOLE_DEVICE

# More devices than any node has; beyond it the count alone is kept.
MAX_DEVICES = 128
ABSENT = -30_000


DeviceArray = npt.NDArray[np.int16]


class DeviceTable:
    """`free[row, device]` in thousandths; far below zero where there is no such device."""

    def __init__(self) -> None:
        self.free: DeviceArray = np.zeros((0, 0), np.int16)
        self._counts: dict[int, int] = {}

    def grow(self, rows: int) -> None:
        self.free = grown(self.free, (rows, self.free.shape[1]), ABSENT)

    def install(self, row: int, devices: int) -> None:
        """Gives a row its devices, all free; none for zero."""
        devices = min(devices, MAX_DEVICES)
        if devices > self.free.shape[1]:
            self.free = grown(self.free, (self.free.shape[0], devices), ABSENT)
        if devices:
            self._counts[row] = devices
        else:
            self._counts.pop(row, None)
        if self.free.shape[1]:
            self.free[row, :devices] = WHOLE_DEVICE
            self.free[row, devices:] = ABSENT

    def count(self, row: int) -> int:
        return self._counts.get(row, 0)

    def take(self, row: int, devices: int, milli: int) -> tuple[int, ...]:
        """Charges the tightest devices that fit; where too few do, the emptiest: someone overcommitted them."""
        known = self._counts.get(row, 0)
        free = self.free[row, :known].tolist()
        if devices == 1:
            # As most ask.
            tightest = milli if milli in free else min((amount for amount in free if amount > milli), default=-1)
            if tightest >= milli:
                index = free.index(tightest)
                self.free[row, index] = tightest - milli
                return (index,)
        fitting = sorted((amount, index) for index, amount in enumerate(free) if amount >= milli)
        chosen = [index for _, index in fitting[:devices]]
        if len(chosen) < devices:
            rest = sorted((-amount, index) for index, amount in enumerate(free) if amount < milli)
            chosen += [index for _, index in rest[: devices - len(chosen)]]
        for index in chosen:
            self.free[row, index] -= milli
        return tuple(chosen)

    def give_back(self, row: int, chosen: tuple[int, ...], milli: int) -> None:
        for index in chosen:
            self.free[row, index] += milli

    def take_again(self, row: int, chosen: tuple[int, ...], milli: int) -> None:
        """What was given back, on the very same devices."""
        for index in chosen:
            self.free[row, index] -= milli

    def room(self, rows: Rows, devices: int, milli: int) -> IntArray:
        """How many pods with `devices` devices of `milli` each fit on each row."""
        if not self.free.shape[1]:
            return np.zeros(len(rows), np.int64)
        slots = np.maximum(self.free[rows], 0).astype(np.int64) // milli
        # A pod takes different devices: with k pods, a device serves each of them at most once.
        most = slots.sum(axis=1) // devices
        return most if devices == 1 else np.asarray(_divided(slots, devices, most))


def _divided(slots: IntArray, devices: int, most: IntArray) -> IntArray:
    """The largest k with `Σ min(slots, k) ≥ k · devices`, by row: so many pods can be given different devices."""
    low, high = np.zeros_like(most), most
    while (low < high).any():
        middle = (low + high + 1) // 2
        enough = np.minimum(slots, middle[:, None]).sum(axis=1) >= middle * devices
        low, high = np.where(enough, middle, low), np.where(enough, high, middle - 1)
    return low
