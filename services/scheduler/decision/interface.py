"""What filters and cost terms are, built in or from a user's own package (`services.scheduler.plugins` finds those).

A plug-in makes, for one pod shape, a filter or a cost term, or nothing where the shape does not need it. It is asked
for any rows of the node table, and must answer the same whenever it is asked the same: what it answered is kept until
a row changes.

A user's own is asked through a guard. What it raises, or answers in another shape, type or range, is a `PluginError`
that names it; then no pod is placed that it should have judged (see `profiles`), and what runs stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from services.scheduler.decision.table.arrays import BoolArray, FloatArray
from services.scheduler.decision.table.requests import Request
from services.scheduler.decision.table.views import NodeView
from shared.model.pods import PodShape

Reasons = Iterator[tuple[str, BoolArray]]
T = TypeVar("T")

_LONGEST_MESSAGE = 300


class Filter(Protocol):
    """`mask` is true for each row of the view that passes; `reasons` says why rows do not, each with its mask.

    A `dynamic` one depends on what runs on a node, and is asked again when that changes; others depend on facts of a
    node alone.
    """

    name: str
    dynamic: bool

    def mask(self, view: NodeView) -> BoolArray: ...

    def reasons(self, view: NodeView) -> Reasons: ...


class CostTerm(Protocol):
    """`cost` has a number in [0, 1] for each row of the view, and less is better; `dynamic` as of a filter."""

    name: str
    dynamic: bool

    def cost(self, view: NodeView) -> FloatArray: ...


@dataclass(frozen=True, slots=True)
class FilterPlugin:
    """`origin` is the distribution that it came with, as `name version`; empty for those built in."""

    name: str
    make: Callable[[PodShape, Request], Filter | None] = field(repr=False, compare=False)
    origin: str = ""


@dataclass(frozen=True, slots=True)
class CostPlugin:
    name: str
    weight: float
    make: Callable[[PodShape, Request], CostTerm | None] = field(repr=False, compare=False)
    origin: str = ""


class PluginError(Exception):
    """A user's own filter or cost term failed; the message names it."""


def make_filter(plugin: FilterPlugin, shape: PodShape, request: Request) -> Filter | None:
    """Raises PluginError."""
    what = f"filter {plugin.name!r} ({plugin.origin})"
    made = _called(what, lambda: plugin.make(shape, request))
    return _GuardedFilter(what, plugin.name, made) if made is not None else None


def make_cost(plugin: CostPlugin, shape: PodShape, request: Request) -> CostTerm | None:
    """Raises PluginError."""
    what = f"cost term {plugin.name!r} ({plugin.origin})"
    made = _called(what, lambda: plugin.make(shape, request))
    return _GuardedCost(what, plugin.name, made) if made is not None else None


class _GuardedFilter:
    def __init__(self, what: str, name: str, inner: Filter) -> None:
        self.name = name
        self.dynamic = bool(_called(what, lambda: inner.dynamic))
        self._what = what
        self._inner = inner

    def mask(self, view: NodeView) -> BoolArray:
        nodes, there = _nodes_of(view)
        passes = np.zeros(len(view.rows), np.bool_)
        passes[there] = self._checked(_called(self._what, lambda: self._inner.mask(nodes)), nodes)
        return passes

    def reasons(self, view: NodeView) -> Reasons:
        """Asked of nodes that exist."""
        for text, mask in _called(self._what, lambda: list(self._inner.reasons(view))):
            yield str(text)[:_LONGEST_MESSAGE], self._checked(mask, view)

    def _checked(self, answer: Any, view: NodeView) -> BoolArray:
        if not _has_form(answer, len(view.rows), np.bool_):
            raise PluginError(f"{self._what} answered {_form(answer)}; want a mask of {len(view.rows)} booleans")
        return np.asarray(answer)


class _GuardedCost:
    def __init__(self, what: str, name: str, inner: CostTerm) -> None:
        self.name = name
        self.dynamic = bool(_called(what, lambda: inner.dynamic))
        self._what = what
        self._inner = inner

    def cost(self, view: NodeView) -> FloatArray:
        nodes, there = _nodes_of(view)
        answer: Any = _called(self._what, lambda: self._inner.cost(nodes))
        if not _has_form(answer, len(nodes.rows), np.float64):
            raise PluginError(f"{self._what} answered {_form(answer)}; want an array of {len(nodes.rows)} float64")
        # What is not a number is in no range.
        wrong = answer[~((answer >= 0) & (answer <= 1))]
        if len(wrong):
            raise PluginError(f"{self._what} answered {wrong[0]}; want numbers from 0 to 1")
        cost = np.zeros(len(view.rows), np.float64)
        cost[there] = answer
        return cost


def _nodes_of(view: NodeView) -> tuple[NodeView, BoolArray]:
    """The rows that are nodes, and which of all these are: a row without one has no amounts to divide by."""
    there = view.table.alive[view.rows]
    return NodeView(view.table, view.rows[there], view.request), there


def _called(what: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception as error:  # whatever it is: it is theirs, and must not end the leader's term
        text = f"{what} failed: {type(error).__name__}: {error}"
        raise PluginError(text[:_LONGEST_MESSAGE]) from error


def _has_form(answer: object, rows: int, dtype: type[np.generic]) -> bool:
    return isinstance(answer, np.ndarray) and answer.shape == (rows,) and answer.dtype == dtype


def _form(answer: object) -> str:
    if isinstance(answer, np.ndarray):
        return f"an array of shape {answer.shape} and type {answer.dtype}"
    return f"a {type(answer).__name__}"
