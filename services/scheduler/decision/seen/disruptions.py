"""PodDisruptionBudgets of the clusters, as their watchers saw them.

A budget without a selector is about nothing; an empty selector is about all pods of its namespace, as in `policy/v1`.
How many pods may go is what the cluster's own disruption controller says: `status.disruptionsAllowed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from services.scheduler.decision.seen.observed import budget_of
from shared.model.identities import ObjectKey
from shared.model.selectors import LabelSelector


@dataclass(frozen=True, slots=True)
class SeenBudget:
    """`left`: how many healthy pods there are beyond those that are wanted."""

    cluster: str
    namespace: str
    name: str
    selector: LabelSelector
    left: int

    @property
    def key(self) -> tuple[str, str, str]:
        return self.cluster, self.namespace, self.name


class SeenBudgets:
    """`loosened` changes whenever more pods may go than before, for all that is known."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], dict[str, SeenBudget]] = {}
        self.loosened = 0

    def observe(self, key: ObjectKey, raw: bytes | None) -> None:
        """None is a tombstone. Raises DecodeError, with nothing changed."""
        selector, left = budget_of(raw) if raw is not None else (None, 0)
        where = key.cluster, key.namespace
        there = self._found.get(where, {})
        before = there.get(key.name)
        if before is not None and (left > before.left or selector != before.selector):
            self.loosened += 1
        if selector is not None:
            self._found.setdefault(where, there)[key.name] = SeenBudget(*where, key.name, selector, left)
        elif there.pop(key.name, None) is not None and not there:
            del self._found[where]

    def __iter__(self) -> Iterator[SeenBudget]:
        return (budget for there in self._found.values() for budget in there.values())

    def about(self, cluster: str, namespace: str, labels: Mapping[str, str]) -> Iterator[SeenBudget]:
        """Those that such a pod counts for, in the order of their names."""
        there = self._found.get((cluster, namespace), {})
        for name in sorted(there):
            if there[name].selector.matches(labels):
                yield there[name]
