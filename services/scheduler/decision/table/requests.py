"""What a pod takes from its node, as vectors over the node table's columns."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakValueDictionary

import numpy as np

from services.scheduler.decision.table.arrays import IntArray
from shared.model.pods import WHOLE_DEVICE, HostPort

Amounts = tuple[tuple[str, int], ...]

# Amounts beyond this are held as this much: no node has more, and sums stay within 64 bits.
MAX_AMOUNT = 2**53
_ANY_AMOUNT = -(2**63)


class Columns:
    """The resources that nodes have, and their columns. Columns are only added, by nodes and by what runs on them."""

    __slots__ = ("gpu_resource", "index", "names", "width")

    FIRST = ("cpu", "memory", "ephemeral-storage", "pods")

    def __init__(self, gpu_resource: str) -> None:
        self.gpu_resource = gpu_resource
        self.names: list[str] = list(self.FIRST)
        self.index: dict[str, int] = {name: index for index, name in enumerate(self.names)}
        self.width = len(self.names)

    @property
    def gpu_column(self) -> int:
        """-1 where nothing has GPUs."""
        return self.index.get(self.gpu_resource, -1)

    def ensure(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.index:
                self.index[name] = len(self.names)
                self.names.append(name)
        self.width = len(self.names)


class Request:
    """Interned: equal requests are one object. `devices` GPUs, of each of which `milli` thousandths."""

    __slots__ = (
        "__weakref__",
        "_columns",
        "_floor",
        "_missing",
        "_told",
        "_vector",
        "_width",
        "amounts",
        "devices",
        "milli",
        "ports",
    )

    def __init__(self, columns: Columns, amounts: Amounts, milli: int, ports: tuple[HostPort, ...]) -> None:
        self._columns = columns
        self.amounts = amounts
        self.ports = ports
        self.devices = dict(amounts).get(columns.gpu_resource, 0)
        self.milli = milli
        self._vector = np.zeros(0, np.int64)
        self._floor = np.zeros(0, np.int64)
        self._told = np.zeros(0, np.int64)
        self._missing: tuple[str, ...] = ()
        # How many columns the vectors are made for.
        self._width = -1

    @property
    def vector(self) -> IntArray:
        """The amount in each column; GPUs in thousandths of a device."""
        if self._width != self._columns.width:
            self._build()
        return self._vector

    @property
    def floor(self) -> IntArray:
        """What must be free in each column: any amount, even less than none, where nothing is asked."""
        if self._width != self._columns.width:
            self._build()
        return self._floor

    @property
    def told(self) -> IntArray:
        """All that the kernel asks of it: `vector`, `floor`, `devices` and `milli`, one behind the other."""
        if self._width != self._columns.width:
            self._build()
        return self._told

    @property
    def missing(self) -> tuple[str, ...]:
        """Resources that no node of the fleet has: there is no room for this anywhere."""
        if self._width != self._columns.width:
            self._build()
        return self._missing

    def _build(self) -> None:
        columns = self._columns
        vector = np.zeros(columns.width, np.int64)
        floor = np.full(columns.width, _ANY_AMOUNT, np.int64)
        for name, amount in self.amounts:
            index = columns.index.get(name)
            if index is not None:
                vector[index] = min(amount * self.milli if name == columns.gpu_resource else amount, MAX_AMOUNT)
                floor[index] = vector[index]
        self._vector, self._floor, self._width = vector, floor, columns.width
        self._told = np.array([*vector, *floor, self.devices, self.milli], np.int64)
        self._missing = tuple(name for name, _ in self.amounts if name not in columns.index)


class Requests:
    """All different requests of the fleet, as long as anything refers to them."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._known: WeakValueDictionary[tuple[Amounts, int, tuple[HostPort, ...]], Request] = WeakValueDictionary()
        self.nothing = self.intern(())

    def intern(self, amounts: Amounts, milli: int = WHOLE_DEVICE, ports: tuple[HostPort, ...] = ()) -> Request:
        key = (amounts, milli, ports)
        request = self._known.get(key)
        if request is None:
            request = self._known[key] = Request(self._columns, *key)
        return request

    def larger(self, one: Request, other: Request) -> Request:
        """The larger of both in every resource."""
        if one is other:
            return one
        amounts = dict(one.amounts)
        for name, amount in other.amounts:
            amounts[name] = max(amount, amounts.get(name, 0))
        ports = tuple(sorted({*one.ports, *other.ports}))
        return self.intern(tuple(sorted(amounts.items())), max(one.milli, other.milli), ports)
