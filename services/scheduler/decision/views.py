"""Some rows of the node table as one request sees them; what filters share is computed once."""

from __future__ import annotations

from services.scheduler.decision.arrays import BoolArray, IntArray, Rows
from services.scheduler.decision.devices import DeviceArray
from services.scheduler.decision.nodes import NodeTable
from services.scheduler.decision.requests import Request


class NodeView:
    """`rows` of `table`, for pods that ask for `request`."""

    __slots__ = ("_devices", "_devices_fit", "_free", "request", "rows", "table")

    def __init__(self, table: NodeTable, rows: Rows, request: Request) -> None:
        self.table = table
        self.rows = rows
        self.request = request
        self._free: IntArray | None = None
        self._devices: DeviceArray | None = None
        self._devices_fit: BoolArray | None = None

    @property
    def free(self) -> IntArray:
        """What is free, by row and resource column."""
        if self._free is None:
            self._free = self.table.free.take(self.rows, axis=0)
        return self._free

    @property
    def devices(self) -> DeviceArray:
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
