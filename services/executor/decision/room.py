"""Whether a node has room for one more pod, beside those of ours that are on it or may get there.

The scheduler gives every pod that it places room of its own, but it hears of pods later than this executor does: it
may have given the room of a pod that it placed, and never saw, to another. When both commands come in one burst the
first pod is on the node already, and goes with a grace period. The API server does not look at room when a pod is
bound, and a kubelet fails a pod for which it has none. So a binding waits here until what has to go is gone.

Only pods that the executor applied are counted: what others put on a node is for the scheduler and the kubelet to see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from shared.model.pod_objects import PodSpecObject, gpu_milli
from shared.model.pods import WHOLE_DEVICE, HostPort
from shared.model.resources import Amounts, amount_of, is_extended


@dataclass(frozen=True, slots=True)
class Needs:
    """What a pod takes of its node; devices in thousandths, since several pods may share one."""

    amounts: tuple[tuple[str, int], ...] = ()
    ports: tuple[HostPort, ...] = ()


NOTHING = Needs()


@dataclass(frozen=True, slots=True)
class Node:
    """`schedulable`: whether pods may be put there; `allocatable` in the same units as needs."""

    schedulable: bool = True
    allocatable: Amounts = field(default_factory=dict)


def needs_of(spec: PodSpecObject, annotations: Mapping[str, str] | None) -> Needs:
    """Raises QuantityError."""
    part = gpu_milli(annotations)
    amounts = ((name, amount * part if is_extended(name) else amount) for name, amount in spec.requests().items())
    return _shared(Needs(tuple(sorted(amounts)), spec.host_ports()))


def amounts_of(allocatable: Mapping[str, str]) -> Amounts:
    """Raises QuantityError."""
    return {
        name: amount_of(name, text) * (WHOLE_DEVICE if is_extended(name) else 1) for name, text in allocatable.items()
    }


def lacking(needs: Needs, others: Iterable[Needs], node: Node) -> list[str]:
    """The resources and ports for which the node has no room beside the others; empty if it has room for all."""
    left = dict(node.allocatable)
    taken: list[HostPort] = []
    for other in others:
        taken += other.ports
        for name, amount in other.amounts:
            left[name] = left.get(name, 0) - amount
    names = [name for name, amount in needs.amounts if amount > left.get(name, 0)]
    ports = (port for port in needs.ports if any(port.conflicts(other) for other in taken))
    return names + [f"port {port.port}/{port.protocol}" for port in ports]


@lru_cache(maxsize=4096)
def _shared(needs: Needs) -> Needs:
    """The same value for pods that are alike: there are few kinds of them, and many pods."""
    return needs
