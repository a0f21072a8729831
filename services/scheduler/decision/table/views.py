"""Some rows of the node table as one request sees them; what filters share is computed once."""

from __future__ import annotations

import numpy as np

from services.scheduler.decision.table.arrays import IntArray, Rows
from services.scheduler.decision.table.classes import HOSTNAME_LABEL
from services.scheduler.decision.table.devices import DeviceArray
from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.requests import Request


class NodeView:
    """`rows` of `table`, for pods that ask for `request`."""

    __slots__ = ("_devices", "_free", "request", "rows", "table")

    def __init__(self, table: NodeTable, rows: Rows, request: Request) -> None:
        self.table = table
        self.rows = rows
        self.request = request
        self._free: IntArray | None = None
        self._devices: DeviceArray | None = None

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

    def label(self, key: str) -> list[str | None]:
        """The value of a label, by row; None where there is none."""
        table = self.table
        numbers = table.node_class[self.rows].tolist()
        if key == HOSTNAME_LABEL:
            return [
                table.classes[number].labels_of(table.names[row]).get(key)
                for row, number in zip(self.rows.tolist(), numbers, strict=True)
            ]
        by_class = {number: table.classes[number].labels.get(key) for number in set(numbers)}
        return [by_class[number] for number in numbers]

    def free_of(self, resource: str) -> IntArray:
        """What is free of a resource, by row: cpu and GPUs in thousandths, less than zero where too much was given."""
        return self._column(self.table.free, resource)

    def allocatable_of(self, resource: str) -> IntArray:
        return self._column(self.table.allocatable, resource)

    def _column(self, amounts: IntArray, resource: str) -> IntArray:
        index = self.table.columns.index.get(resource)
        return np.zeros(len(self.rows), np.int64) if index is None else amounts[self.rows, index]
