"""Topology domains: nodes of one cluster with the same value of a label. They do not reach over clusters."""

from __future__ import annotations

import numpy as np

from services.scheduler.decision.table.arrays import BLOCK, Rows, grown
from services.scheduler.decision.table.classes import HOSTNAME_LABEL
from services.scheduler.decision.table.nodes import NodeTable
from shared.model.identities import ZONE_LABEL

NOWHERE = -1


class Topology:
    """The domains of one label key, numbered; `of_row` is NOWHERE where a node has no such label.

    The number of a domain without nodes is given away again. `by_block`: all nodes of a block are in one domain.
    """

    def __init__(self, table: NodeTable, key: str) -> None:
        self.key = key
        self.by_block = key == ZONE_LABEL
        self.of_row: Rows = np.zeros(0, np.intp)
        # The cluster of each domain.
        self.cluster: Rows = np.zeros(0, np.intp)
        self._table = table
        self._numbers: dict[tuple[int, str], int] = {}
        self._names: list[tuple[int, str]] = []
        self._rows: list[dict[int, None]] = []
        self._arrays: list[Rows | None] = []
        self._unused: list[int] = []
        self._of_block: Rows | None = None
        self._seen = 0

    @property
    def domains(self) -> int:
        return len(self._names)

    @property
    def of_block(self) -> Rows:
        """The domain of each block's nodes; of a block without any, NOWHERE."""
        if self._of_block is None:
            self._of_block = self.of_row.reshape(-1, BLOCK).max(axis=1)
        return self._of_block

    def rows_of(self, domain: int) -> Rows:
        rows = self._arrays[domain]
        if rows is None:
            members = self._rows[domain]
            rows = self._arrays[domain] = np.fromiter(members, np.intp, len(members))
        return rows

    def refresh(self) -> None:
        """Follows the table."""
        table = self._table
        if self._seen == table.facts_log.end and len(self.of_row) == table.rows:
            return
        changed = table.facts_log.since(self._seen)
        self._seen = table.facts_log.end
        if len(self.of_row) != table.rows:
            self.of_row = grown(self.of_row, (table.rows,), NOWHERE)
        self._of_block = None
        for row in np.arange(table.rows).tolist() if changed is None else changed.tolist():
            self._place(row)
        if len(self.cluster) != self.domains:
            self.cluster = np.array([cluster for cluster, _ in self._names], np.intp)

    def _place(self, row: int) -> None:
        value, before = self._value(row), int(self.of_row[row])
        name = (self._table.cluster_of(row), value) if value is not None else None
        if before != NOWHERE:
            if self._names[before] == name:
                return
            members = self._rows[before]
            del members[row]
            self._arrays[before] = None
            if not members:
                del self._numbers[self._names[before]]
                self._unused.append(before)
        domain = NOWHERE
        if name is not None:
            domain = self._number(name)
            self._rows[domain][row] = None
            self._arrays[domain] = None
        self.of_row[row] = domain

    def _value(self, row: int) -> str | None:
        table = self._table
        if not table.alive[row]:
            return None
        node_class = table.classes[int(table.node_class[row])]
        if node_class.named and self.key == HOSTNAME_LABEL:
            return table.names[row]
        value = node_class.labels.get(self.key)
        # Blocks are made for zones, and a zone without a name is none.
        return value if value or not self.by_block else None

    def _number(self, name: tuple[int, str]) -> int:
        domain = self._numbers.get(name)
        if domain is not None:
            return domain
        if self._unused:
            domain = self._unused.pop()
            self._names[domain] = name
            self.cluster[domain : domain + 1] = name[0]
        else:
            domain = len(self._names)
            self._names.append(name)
            self._rows.append({})
            self._arrays.append(None)
        self._numbers[name] = domain
        return domain
