"""Which nodes have no room for a request, and what they lack: the filters of the kernel, for those who ask why.

All candidates are asked by one compiled call, since each pod that waits has its own answer as soon as anything was
placed before it. Resources come before devices, and the words are kube-scheduler's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from services.scheduler.decision.scoring.kernel import shortages
from services.scheduler.decision.table.arrays import Rows
from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.requests import Request


class Lacking(NamedTuple):
    """Nodes of one class in one cluster which the resources refuse: how many, which of the request's amounts any of
    them lacks, and the row that lacks least, in parts of what is asked; of equals the first by the table's order.
    """

    cluster: int
    node_class: int
    nodes: int
    reasons: tuple[str, ...]
    part: float
    order: float
    row: int


class Fragmented(NamedTuple):
    """Nodes of one class in one cluster which have the resources, though not on single devices."""

    cluster: int
    node_class: int
    nodes: int


class Shortage:
    """Of `rows`: those that are refused, by cluster and class, in the order of their numbers; and those that pass."""

    __slots__ = ("_by_reason", "fragmented", "lacking", "passing", "text_of_devices")

    def __init__(self, table: NodeTable, request: Request, rows: Rows) -> None:
        classes, width = len(table.classes), table.columns.width
        codes = (int(table.block_cluster.max()) + 1 if len(table.block_cluster) else 0) * classes
        refused = np.zeros((2, codes), np.int64)
        lacks = np.zeros((codes, width), np.bool_)
        by_column = np.zeros(width, np.int64)
        closest, part = np.full(codes, -1, np.int64), np.zeros(codes, np.float64)
        passing = np.empty(len(rows), np.intp)
        count = shortages(
            rows,
            table.block_cluster,
            table.node_class,
            classes,
            table.order,
            table.free,
            table.devices.free,
            request.vector,
            request.floor,
            request.devices,
            request.milli,
            bool(request.missing),
            refused,
            lacks,
            by_column,
            closest,
            part,
            passing,
        )
        self.passing = passing[:count].copy()
        index = table.columns.index
        texts = [
            ("Too many pods" if name == "pods" else f"Insufficient {name}", index.get(name, -1))
            for name, _ in request.amounts
        ]
        self.text_of_devices = f"Insufficient {table.columns.gpu_resource} on single devices"
        # Most fleets have few classes in a cluster; most of the numbers have no node.
        codes_lacking = np.flatnonzero(refused[0])
        nearest = closest[codes_lacking]
        found = (
            codes_lacking,
            refused[0, codes_lacking],
            lacks[codes_lacking],
            part[codes_lacking],
            table.order[nearest],
            nearest,
        )
        self.lacking = [
            Lacking(
                code // classes,
                code % classes,
                nodes,
                tuple([text for text, column in texts if column < 0 or lacking[column]]),
                least,
                order,
                row,
            )
            for code, nodes, lacking, least, order, row in zip(*(item.tolist() for item in found), strict=True)
        ]
        self.fragmented = [
            Fragmented(*divmod(code, classes), refused.item(1, code)) for code in np.flatnonzero(refused[1]).tolist()
        ]
        total = int(refused[0].sum())
        self._by_reason = [(text, total if column < 0 else by_column.item(column)) for text, column in texts]
        self._by_reason.append((self.text_of_devices, int(refused[1].sum())))

    def counts(self) -> Iterator[tuple[str, int]]:
        """How many nodes have which reason; zero as well."""
        return iter(self._by_reason)


def short_of(table: NodeTable, request: Request, rows: Sequence[int]) -> list[dict[str, int]]:
    """What each row lacks of each resource; GPUs in thousandths, as in the table, where the fleet has any."""
    names, vector = table.columns.names, request.vector.tolist()
    wanted = [(column, names[column], asked) for column, asked in enumerate(vector) if asked > 0]
    amounts = dict(request.amounts)
    missing = {name: amounts[name] for name in request.missing}
    return [
        {name: asked - free[column] for column, name, asked in wanted if asked > free[column]} | missing
        for free in table.free[rows].tolist()
    ]
