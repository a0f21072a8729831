"""What is asked of the fleet: the shape of a pod, the clusters that its workload's terms allow, and its rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.scheduler.decision.table.rules import Rules
from shared.events.v1.workloads import PlacementTerms
from shared.model.pods import PodShape


@dataclass(frozen=True, slots=True)
class Demand:
    """Equal demands share all work. `selector` is a LabelSelector as JSON, or empty.

    The hash is computed once: demands are looked up for every decision, and shapes are deep.
    """

    shape: PodShape
    clusters: tuple[str, ...] = ()
    selector: bytes = b""
    rules: Rules | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.shape, self.clusters, self.selector, self.rules)))

    def __hash__(self) -> int:
        return self._hash


def demand_of(shape: PodShape, terms: PlacementTerms, rules: Rules | None = None) -> Demand:
    selector = terms.cluster_selector
    return Demand(shape, tuple(sorted(terms.clusters)), selector.to_json() if selector is not None else b"", rules)
