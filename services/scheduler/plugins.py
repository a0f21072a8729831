"""Finds a user's own filters and cost terms: entry points of installed packages, enabled by name in settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from services.scheduler.decision.config import SchedulerConfig, Weights
from services.scheduler.decision.interface import CostPlugin, FilterPlugin
from services.scheduler.decision.scoring.filters import BUILT_IN, IN_KERNEL

FILTERS = "flotilla.scheduler.filters"
COSTS = "flotilla.scheduler.costs"


class PluginsError(Exception):
    """Settings name what is not installed, or what cannot be loaded."""


def with_plugins(config: SchedulerConfig, names: Sequence[str], weights: Mapping[str, float]) -> SchedulerConfig:
    """`weights` are of all cost terms, built in or not; a plug-in that has none counts with 1.

    Filters and terms apply in the order of `names`. Raises PluginsError, and ValueError for a weight that is none.
    """
    filters, costs, rest = [], [], dict(weights)
    for name in names:
        if names.count(name) > 1:
            raise PluginsError(f"the plug-in {name!r} is enabled twice")
        if name in Weights.names() or name in {*IN_KERNEL, *(item.name for item in BUILT_IN)}:
            raise PluginsError(f"the plug-in {name!r} has the name of a filter or cost term that is built in")
        group, found = _find(name)
        if group == FILTERS:
            filters.append(FilterPlugin(name, _load(found), _origin(found)))
        else:
            weight = rest.pop(name, 1.0)
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {name} must be zero or more, not {weight}")
            costs.append(CostPlugin(name, weight, _load(found), _origin(found)))
    return replace(config, weights=Weights.from_mapping(rest), filters=tuple(filters), costs=tuple(costs))


def _find(name: str) -> tuple[str, EntryPoint]:
    found = [(group, item) for group in (FILTERS, COSTS) for item in entry_points(group=group) if item.name == name]
    if not found:
        installed = sorted({item.name for group in (FILTERS, COSTS) for item in entry_points(group=group)})
        raise PluginsError(f"no plug-in {name!r} is installed; there are: {', '.join(installed) or 'none'}")
    if len(found) > 1:
        origins = ", ".join(_origin(item) for _, item in found)
        raise PluginsError(f"several plug-ins are named {name!r}: {origins}")
    return found[0]


def _load(found: EntryPoint) -> Any:
    """Checked is only what can be told before it is asked: the rest is the guard's (`decision.interface`)."""
    what = f"the plug-in {found.name!r} ({_origin(found)})"
    try:
        made = found.load()
    except Exception as error:  # whatever importing their package does
        raise PluginsError(f"{what} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(made):
        raise PluginsError(f"{what} is a {type(made).__name__}; want a callable of a pod shape and a request")
    return made


def _origin(found: EntryPoint) -> str:
    return f"{found.dist.name} {found.dist.version}" if found.dist is not None else found.value
