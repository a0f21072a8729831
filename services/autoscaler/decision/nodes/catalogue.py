"""What one empty node of each group takes, by kind of pod, as the scheduler's filters say of such a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from services.autoscaler.decision.nodes.packing import Kinds
from services.autoscaler.decision.nodes.scheduling import Demand, FloatArray, IntArray, PodFacts, SchedulerConfig
from services.autoscaler.decision.nodes.seen import PodSet, Seen
from services.autoscaler.decision.nodes.trial import Trial

# Of pods with rules between them, which are tried one by one.
_MOST_WITH_RULES = 256


class Catalogue:
    """Pods are of one kind that ask for the same. `sizes` by kind and resource, `capacity` by group and resource, as in
    the node table; `names` are those of resources; `most` by kind and group, how many a node takes, also where the
    group's cluster takes no pods now.
    """

    def __init__(self, seen: Seen, config: SchedulerConfig) -> None:
        clusters = tuple(replace(cluster, open=True) for cluster in seen.clusters)
        trial = Trial(replace(seen, clusters=clusters), config, nodes=False)
        for group in range(len(seen.groups)):
            trial.add(group, 1)
        rows = np.array([trial.new_rows(group)[0] for group in range(len(seen.groups))], np.intp)
        self._by_facts = trial.knows_rules
        self._kinds: dict[tuple[Demand, PodFacts | None], int] = {}
        most, sizes = [], []
        for pod_set in (*seen.pending, *seen.head_room):
            if self._key(pod_set) not in self._kinds:
                self._kinds[self._key(pod_set)] = len(self._kinds)
                most.append(trial.most_on(pod_set, rows, _MOST_WITH_RULES))
                sizes.append(trial.profile(pod_set).request.vector)
        table = trial.table
        self.names = tuple(table.columns.names)
        shape = len(sizes), table.columns.width
        self.sizes: IntArray = np.ascontiguousarray(np.array(sizes, np.int64).reshape(shape))
        self.capacity: IntArray = np.ascontiguousarray(table.allocatable[rows])
        self.most: IntArray = np.ascontiguousarray(np.array(most, np.int64).reshape(len(sizes), len(rows)))

    def kind_of(self, pod_set: PodSet) -> int:
        return self._kinds[self._key(pod_set)]

    def count(self, pod_sets: Iterable[PodSet], counts: Sequence[int]) -> IntArray:
        """By kind."""
        by_kind = np.zeros(len(self._kinds), np.int64)
        for pod_set, count in zip(pod_sets, counts, strict=True):
            by_kind[self.kind_of(pod_set)] += count
        return by_kind

    def kinds(self, prices: FloatArray, room: IntArray) -> Kinds:
        """For `packing`; groups without room take nothing."""
        return Kinds(self.sizes, self.capacity, prices, room, np.where(room > 0, self.most, 0))

    def _key(self, pod_set: PodSet) -> tuple[Demand, PodFacts | None]:
        return pod_set.demand, pod_set.facts if self._by_facts else None
