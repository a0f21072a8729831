"""The client's metrics, whose children are found again without a lock and a tuple of texts each time.

`labels` is asked for with every record. The client makes a text of each value and takes a lock before it looks; here
the values themselves are looked up first.
"""

from __future__ import annotations

from typing import Any, Self

import prometheus_client as client
from prometheus_client.metrics import MetricWrapperBase


class _Remembering(MetricWrapperBase):
    """Stands before a class of the client's. The client makes its children of the same class."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._remembered: dict[tuple[object, ...], Self] = {}
        super().__init__(*arguments, **named)

    def labels(self, *labelvalues: object, **labelkwargs: object) -> Self:
        child = self._remembered.get(labelvalues) if labelvalues and not labelkwargs else None
        if child is None:
            child = super().labels(*labelvalues, **labelkwargs)
            if not labelkwargs:
                self._remembered[labelvalues] = child
        return child

    def remove(self, *labelvalues: object) -> None:
        self._remembered.pop(labelvalues, None)
        super().remove(*labelvalues)

    def clear(self) -> None:
        self._remembered.clear()
        super().clear()


class Counter(_Remembering, client.Counter):
    """As the client's."""


class Gauge(_Remembering, client.Gauge):
    """As the client's. Set to what it is already it does nothing: most are, with every round of work."""

    _is: float | None = None

    def set(self, value: float) -> None:
        if value != self._is:
            super().set(value)
            self._is = value

    def inc(self, amount: float = 1) -> None:
        self._is = None
        super().inc(amount)

    def dec(self, amount: float = 1) -> None:
        self._is = None
        super().dec(amount)


class Histogram(_Remembering, client.Histogram):
    """As the client's."""
