"""What a cluster's nodes add up to: counts, capacity, allocatable, and the labels that they all share.

Totals are kept up to date as nodes change, so that a heartbeat costs the same for five nodes as for five thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from shared.model.identities import PROVIDER_LABEL, REGION_LABEL
from shared.model.quantities import QuantityError, format_amount, resource_amount

# What a cluster is labelled with if all of its nodes agree.
SHARED_LABELS: Final = (REGION_LABEL, PROVIDER_LABEL)


class _Condition(msgspec.Struct, gc=False):
    type: str = ""
    status: str = ""


class _Status(msgspec.Struct):
    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None
    conditions: list[_Condition] | None = None


class _Metadata(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Node(msgspec.Struct):
    metadata: _Metadata
    status: _Status | None = None


_DECODER: Final = msgspec.json.Decoder(_Node)


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """One node's part. Amounts as `resource_amount` counts them."""

    ready: bool
    capacity: Mapping[str, int]
    allocatable: Mapping[str, int]
    labels: Mapping[str, str]


class NodeTotals:
    def __init__(self) -> None:
        self._nodes: dict[str, NodeSummary] = {}
        self._capacity: Counter[str] = Counter()
        self._allocatable: Counter[str] = Counter()
        self._labels: dict[str, Counter[str]] = {label: Counter() for label in SHARED_LABELS}
        self.ready = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def put(self, name: str, raw: bytes) -> None:
        summary = summarize(raw)
        self.remove(name)
        self._nodes[name] = summary
        self._add(summary, 1)

    def remove(self, name: str) -> None:
        """What is not there is no error."""
        summary = self._nodes.pop(name, None)
        if summary is not None:
            self._add(summary, -1)

    def capacity(self) -> dict[str, str]:
        return _formatted(self._capacity)

    def allocatable(self) -> dict[str, str]:
        return _formatted(self._allocatable)

    def shared_labels(self) -> dict[str, str]:
        """The labels that every node has with the same value."""
        found = {}
        for label, values in self._labels.items():
            if len(values) == 1:
                ((value, count),) = values.items()
                if count == len(self._nodes):
                    found[label] = value
        return found

    def _add(self, summary: NodeSummary, sign: int) -> None:
        self.ready += sign * summary.ready
        _accumulate(self._capacity, summary.capacity, sign)
        _accumulate(self._allocatable, summary.allocatable, sign)
        for label, value in summary.labels.items():
            _accumulate(self._labels[label], {value: 1}, sign)


def summarize(raw: bytes) -> NodeSummary:
    """What cannot be read as a node still counts as one: as one that is not ready and has nothing to give."""
    try:
        node = _DECODER.decode(raw)
    except msgspec.DecodeError:
        return NodeSummary(ready=False, capacity={}, allocatable={}, labels={})
    status, labels = node.status or _Status(), node.metadata.labels or {}
    return NodeSummary(
        ready=any(c.type == "Ready" and c.status == "True" for c in status.conditions or ()),
        capacity=_amounts(status.capacity),
        allocatable=_amounts(status.allocatable),
        labels={label: labels[label] for label in SHARED_LABELS if label in labels},
    )


def _amounts(quantities: Mapping[str, str] | None) -> dict[str, int]:
    """A quantity that does not parse counts nothing: a heartbeat is no place to fail over one device plugin."""
    amounts = {}
    for name, text in (quantities or {}).items():
        try:
            amounts[name] = resource_amount(name, text)
        except QuantityError:
            continue
    return amounts


def _accumulate(totals: Counter[str], amounts: Mapping[str, int], sign: int) -> None:
    for name, amount in amounts.items():
        totals[name] += sign * amount
        if not totals[name]:
            del totals[name]


def _formatted(totals: Mapping[str, int]) -> dict[str, str]:
    return {name: format_amount(name, amount) for name, amount in sorted(totals.items())}
