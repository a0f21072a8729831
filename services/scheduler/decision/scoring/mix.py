"""The mix of pods with GPUs that the fleet is asked to run: what free GPUs are judged by (`kernel.expected_fragment`).

Counted are the desired replicas of all accepted workloads, placed or waiting, by cpu and GPUs; what may yet come is
taken to be like them. Costs are computed with a snapshot, taken anew when the number of pods has doubled or halved:
every profile is computed anew then.

The counts are a function of the folded state, the snapshot depends on when it was taken: two replicas of the scheduler
may hold different ones, and weigh differently. It is a matter of cost alone, and only the leader decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from services.scheduler.decision.asked.plans import GpuClass, PodSetPlan
from services.scheduler.decision.scoring.kernel import expected_leftover
from services.scheduler.decision.table.arrays import FloatArray, IntArray

# Rare classes are left out: each costs time for every row.
_MOST_CLASSES = 32
_GROWTH = 2


class DemandMix:
    """`classes` has cpu, devices and thousandths of each device, by class; `frequency` is its part of all pods.
    `leftover` is what such pods leave of a device, by what is free of it (`kernel.expected_leftover`).
    """

    def __init__(self) -> None:
        self._counts: Counter[GpuClass] = Counter()
        self._total = 0
        self._snapshot_total = 0
        self.version = 0
        self.classes: IntArray = np.zeros((0, 3), np.int64)
        self.frequency: FloatArray = np.zeros(0, np.float64)
        self.leftover: FloatArray = expected_leftover(self.classes, self.frequency)

    @property
    def until_snapshot(self) -> int:
        """So many pods with GPUs more, and costs are computed anew."""
        return max(1, _GROWTH * self._snapshot_total - self._total)

    def add(self, plans: Iterable[PodSetPlan]) -> None:
        """What `replace` does for one new workload of one pod after the other, where costs are computed anew for none
        before the last.
        """
        for plan in plans:
            if plan.gpus is not None:
                self._counts[plan.gpus] += 1
                self._total += 1
        self._follow()

    def replace(self, former: Sequence[PodSetPlan], plans: Sequence[PodSetPlan]) -> None:
        """A workload asks for other pods than before."""
        if former:
            self._count(former, -1)
        self._count(plans, 1)
        self._follow()

    def _follow(self) -> None:
        if self._total >= _GROWTH * self._snapshot_total or self._total * _GROWTH <= self._snapshot_total:
            self._take_snapshot()

    def _count(self, plans: Iterable[PodSetPlan], sign: int) -> None:
        for plan in plans:
            if plan.gpus is not None and plan.desired:
                self._counts[plan.gpus] += sign * plan.desired
                self._total += sign * plan.desired

    def _take_snapshot(self) -> None:
        if self._total == self._snapshot_total:
            return
        self._counts = +self._counts
        # Not by `most_common`: it takes equals in the order in which they came.
        common = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_CLASSES]
        counted = sum(count for _, count in common)
        self.classes = np.array([kind for kind, _ in common], np.int64).reshape(-1, 3)
        self.frequency = np.array([count / counted for _, count in common], np.float64)
        self.leftover = expected_leftover(self.classes, self.frequency)
        self._snapshot_total = self._total
        self.version += 1
