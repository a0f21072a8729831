"""A hash of the folded state, the same for replicas that folded the same records.

Which GPU of its node a pod has is left out: it depends on the order in which pods became known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields

import orjson

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.seen.slots import NO_ROW
from shared.events.v1.decisions import WorkloadPlaced

_PLUGINS = ("filters", "costs")
# Settings that came later, as long as they have no effect: journals from before are of the same configuration.
_WITHOUT_EFFECT: Mapping[str, object] = {"largest_first_ms": 0}


def fingerprint(fleet: Fleet, workloads: Iterable[WorkloadPlaced]) -> str:
    """SHA-256 over canonical JSON of the workloads' decisions and the nodes that exist."""
    table = fleet.table
    nodes = []
    for slot in fleet.slots:
        if slot.row != NO_ROW:
            free = dict(zip(table.columns.names, table.free[slot.row].tolist(), strict=True))
            allocatable = dict(zip(table.columns.names, table.allocatable[slot.row].tolist(), strict=True))
            state = [bool(table.ready[slot.row]), bool(table.unschedulable[slot.row]), float(table.price[slot.row])]
            nodes.append([slot.cluster, slot.name, _present(free), _present(allocatable), state])
    document = {
        "workloads": sorted((str(placed.workload.key), placed.to_json().decode()) for placed in workloads),
        "nodes": sorted(nodes, key=lambda node: (node[0], node[1])),
    }
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def config_hash(config: SchedulerConfig, max_request_bytes: int) -> str:
    """Equal for configurations that decide alike; plug-ins are what their packages say that they are."""
    values = {item.name: getattr(config, item.name) for item in fields(SchedulerConfig) if item.name not in _PLUGINS}
    document: dict[str, object] = {
        name: repr(value)
        for name, value in values.items()
        if name not in _WITHOUT_EFFECT or value != _WITHOUT_EFFECT[name]
    }
    document["filters"] = [(item.name, item.origin) for item in config.filters]
    document["costs"] = [(item.name, item.weight, item.origin) for item in config.costs]
    document["maxRequestBytes"] = max_request_bytes
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _present(amounts: dict[str, int]) -> dict[str, int]:
    """Columns without amounts do not count: they depend on which resources were ever seen."""
    return {name: amount for name, amount in amounts.items() if amount}
