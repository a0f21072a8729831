"""Topology domains: nodes of one cluster with the same value of a label. They do not reach over clusters."""

from __future__ import annotations

import numpy as np

from services.scheduler.decision.table.arrays import BLOCK, Rows, grown
from services.scheduler.decision.table.classes import HOSTNAME_LABEL
from services.scheduler.decision.table.nodes import NodeTable
from shared.model.identities import ZONE_LABEL

NOWHERE = -1


class Topologies:
    """The domains of every label key that somebody asks for, as arrays with an entry for each key; NOWHERE for none.

    By row its domain (`of_row`), and the next and the one before of the same (`after`, `before`); by block the domain
    of its rows, where the key is such that they have but one (`of_block`); by domain, of which there are no more than
    rows, its cluster and its first row (`cluster`, `first`).
    """

    def __init__(self, table: NodeTable) -> None:
        # Rises when any node came to another domain.
        self.moves = 0
        self.of_row = self.after = self.before = self.cluster = self.first = _nothing()
        self.of_block = _nothing()
        self._table = table
        self._known: dict[str, Topology] = {}

    def get(self, key: str) -> Topology:
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Topology(self._table, self, len(self._known), key)
        return found

    def fit(self) -> None:
        """Room for all keys, and all rows of the table."""
        keys, rows = self.of_row.shape
        if keys < len(self._known):
            keys = 2 * len(self._known)
        if (keys, self._table.rows) != (len(self.of_row), rows):
            shape = keys, self._table.rows
            self.of_row, self.after = grown(self.of_row, shape, NOWHERE), grown(self.after, shape, NOWHERE)
            self.before, self.first = grown(self.before, shape, NOWHERE), grown(self.first, shape, NOWHERE)
            self.cluster = grown(self.cluster, shape, NOWHERE)
            self.of_block = grown(self.of_block, (keys, self._table.blocks), NOWHERE)


class Topology:
    """The domains of one label key, numbered. The number of a domain without nodes is given away again.

    `number` is the key's place in `Topologies`. `by_block`: all nodes of a block are in one domain.
    """

    def __init__(self, table: NodeTable, arrays: Topologies, number: int, key: str) -> None:
        self.key = key
        self.number = number
        self.by_block = key == ZONE_LABEL
        self._arrays = arrays
        self._table = table
        self._numbers: dict[tuple[int, str], int] = {}
        self._names: list[tuple[int, str]] = []
        self._unused: list[int] = []
        self._seen = -1
        self._rows = -1

    @property
    def domains(self) -> int:
        return len(self._names)

    @property
    def of_row(self) -> Rows:
        """The domain of each row; NOWHERE where a node has no such label."""
        of_row: Rows = self._arrays.of_row[self.number]
        return of_row

    def refresh(self) -> None:
        """Follows the table."""
        table, arrays = self._table, self._arrays
        if self._seen == table.facts_log.end and self._rows == table.rows:
            return
        arrays.fit()
        changed = table.facts_log.since(self._seen)
        self._seen, self._rows = table.facts_log.end, table.rows
        for row in np.arange(table.rows).tolist() if changed is None else changed.tolist():
            self._place(row)
        if self.by_block:
            arrays.of_block[self.number] = self.of_row.reshape(-1, BLOCK).max(axis=1)

    def _place(self, row: int) -> None:
        value, before = self._value(row), int(self._arrays.of_row[self.number, row])
        name = (self._table.cluster_of(row), value) if value is not None else None
        if before != NOWHERE:
            if self._names[before] == name:
                return
            self._take_out(row, before)
        elif name is None:
            return
        self._arrays.moves += 1
        domain = NOWHERE
        if name is not None:
            domain = self._number(name)
            self._put_in(row, domain)
        self._arrays.of_row[self.number, row] = domain

    def _put_in(self, row: int, domain: int) -> None:
        """The row is the first of the domain."""
        arrays, key = self._arrays, self.number
        others = arrays.first[key, domain]
        arrays.after[key, row], arrays.before[key, row] = others, NOWHERE
        arrays.first[key, domain] = row
        if others != NOWHERE:
            arrays.before[key, others] = row

    def _take_out(self, row: int, domain: int) -> None:
        arrays, key = self._arrays, self.number
        before, after = arrays.before[key, row], arrays.after[key, row]
        if after != NOWHERE:
            arrays.before[key, after] = before
        if before != NOWHERE:
            arrays.after[key, before] = after
            return
        arrays.first[key, domain] = after
        if after == NOWHERE:
            del self._numbers[self._names[domain]]
            self._unused.append(domain)

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
        else:
            domain = len(self._names)
            self._names.append(name)
        self._arrays.cluster[self.number, domain] = name[0]
        self._numbers[name] = domain
        return domain


def _nothing() -> Rows:
    return np.zeros((0, 0), np.intp)
