"""Which images are on which nodes, as kube-scheduler's ImageLocality judges it.

Source: k8s.io/kubernetes pkg/scheduler/framework/plugins/imagelocality. Followed only where the cost term `images` has
a weight: a pod's images are part of its shape then, and nodes report theirs in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from services.scheduler.decision.table.arrays import FloatArray

_MIB = 1024 * 1024
# Less than this is pulled in no time; more than this for each container makes no difference.
_LEAST_BYTES = 23 * _MIB
_MOST_BYTES = 1000 * _MIB


def normalized(image: str) -> str:
    """As nodes report it: with a tag."""
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"


class ImageTable:
    """`version` rises with every change: an image counts by the part of its cluster's nodes that have it."""

    def __init__(self) -> None:
        self.version = 0
        self._of_row: dict[int, tuple[int, Mapping[str, int]]] = {}
        # Size by row, for each image.
        self._rows: dict[str, dict[int, int]] = {}
        self._having: Counter[tuple[int, str]] = Counter()
        self._nodes: Counter[int] = Counter()

    def put(self, row: int, cluster: int, images: Mapping[str, int]) -> None:
        if self._of_row.get(row) == (cluster, images):
            return
        self.remove(row)
        self._of_row[row] = (cluster, images)
        self._nodes[cluster] += 1
        for name, size in images.items():
            self._rows.setdefault(name, {})[row] = size
            self._having[cluster, name] += 1
        self.version += 1

    def remove(self, row: int) -> None:
        known = self._of_row.pop(row, None)
        if known is None:
            return
        cluster, images = known
        self._nodes[cluster] -= 1
        for name in images:
            rows = self._rows[name]
            del rows[row]
            if not rows:
                del self._rows[name]
            self._having[cluster, name] -= 1
            if not self._having[cluster, name]:
                del self._having[cluster, name]
        self.version += 1

    def cost(self, images: Iterable[str], containers: int, rows: int) -> FloatArray:
        """By row of the table: 0 where as much is there as makes a difference, 1 where next to nothing is."""
        total = np.zeros(rows, np.float64)
        for name in images:
            for row, size in self._rows.get(name, {}).items():
                cluster = self._of_row[row][0]
                total[row] += int(size * (self._having[cluster, name] / self._nodes[cluster]))
        most = _MOST_BYTES * containers
        return np.asarray(1.0 - (np.clip(total, _LEAST_BYTES, most) - _LEAST_BYTES) / (most - _LEAST_BYTES))
