"""Host ports in use on each node. Few pods have any, so this is a dictionary, not a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from services.scheduler.decision.table.arrays import Rows
from shared.model.pods import HostPort


class PortTable:
    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], dict[int, Counter[str]]] = {}

    def take(self, row: int, ports: Iterable[HostPort]) -> None:
        for port in ports:
            rows = self._rows.setdefault((port.protocol, port.port), {})
            rows.setdefault(row, Counter())[port.address] += 1

    def give_back(self, row: int, ports: Iterable[HostPort]) -> None:
        for port in ports:
            rows = self._rows[port.protocol, port.port]
            addresses = rows[row]
            addresses[port.address] -= 1
            if not addresses[port.address]:
                del addresses[port.address]
            if not addresses:
                del rows[row]
            if not rows:
                del self._rows[port.protocol, port.port]

    def taken(self, ports: Iterable[HostPort]) -> Rows:
        """The rows where one of these ports is in use."""
        rows = {
            row
            for port in ports
            for row, addresses in self._rows.get((port.protocol, port.port), {}).items()
            if any(port.conflicts(HostPort(port.protocol, port.port, address)) for address in addresses)
        }
        return np.fromiter(rows, np.intp, len(rows))
