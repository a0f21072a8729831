"""Some rows of the node table as one request sees them; what filters and costs share is computed once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from services.scheduler.decision.arrays import ONE, BoolArray, FloatArray, IntArray, Rows
from services.scheduler.decision.nodes import NodeTable
from services.scheduler.decision.requests import Request


class NodeView:
    """`rows` of `table`, for pods that ask for `request`."""

    __slots__ = ("_devices", "_devices_fit", "_fractions", "_free", "request", "rows", "table")

    def __init__(self, table: NodeTable, rows: Rows, request: Request) -> None:
        self.table = table
        self.rows = rows
        self.request = request
        self._free: IntArray | None = None
        self._fractions: tuple[FloatArray, FloatArray] | None = None
        self._devices: npt.NDArray[np.int16] | None = None
        self._devices_fit: BoolArray | None = None

    @property
    def free(self) -> IntArray:
        """What is free, by row and resource column."""
        if self._free is None:
            self._free = self.table.free.take(self.rows, axis=0)
        return self._free

    @property
    def fractions(self) -> tuple[FloatArray, FloatArray]:
        """The parts of cpu and of memory that would be taken with one more such pod, at most 1, by row."""
        if self._fractions is None:
            facts = self.table.native.take(self.rows, axis=0)
            parts = self.request.native - self.free[:, :2] + facts[:, :2]
            parts /= facts[:, 2:]
            np.minimum(parts, ONE, out=parts)
            self._fractions = parts[:, 0], parts[:, 1]
        return self._fractions

    @property
    def devices(self) -> npt.NDArray[np.int16]:
        """What is free on each GPU, by row and device; see `devices.DeviceTable`."""
        if self._devices is None:
            self._devices = self.table.devices.free.take(self.rows, axis=0)
        return self._devices

    @property
    def devices_fit(self) -> BoolArray:
        """Which GPUs have room for the part of one that is asked, by row and device."""
        if self._devices_fit is None:
            self._devices_fit = self.devices >= self.request.milli
        return self._devices_fit
