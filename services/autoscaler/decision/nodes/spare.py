"""Head-room as pods for which there is to be room, so that the scheduler's own code says whether there is.

Of a core or 4 GiB each at most, so that what is spare may be on several nodes, and no more of them than are counted
fast. A part is of what the cluster's pods request, and not of its nodes: nodes more or less do not change how much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from services.autoscaler.decision.nodes.scheduling import Demand
from services.autoscaler.decision.nodes.seen import Node, PodSet
from shared.events.v1.clusters import HeadRoom, is_part
from shared.model.pods import PodShape
from shared.model.quantities import resource_amount

_RESOURCES: Final = ("cpu", "memory", "pods")
_CHUNK: Final = {"cpu": 1000, "memory": 4 << 30, "pods": 1}
_MOST_PODS: Final = 1000
_WHOLE: Final = 100


def head_room_of(cluster: str, wanted: HeadRoom, nodes: Iterable[Node]) -> PodSet | None:
    """Of a cluster with these nodes; None where nothing is to be spare."""
    asked = _requested(nodes) if wanted.has_parts else Counter[str]()
    spare = {name: _amount(name, wanted.of(name), asked[name]) for name in _RESOURCES}
    if not any(spare.values()):
        return None
    count = min(max(-(-spare[name] // _CHUNK[name]) for name in _RESOURCES), _MOST_PODS)
    each = {name: -(-spare[name] // count) for name in ("cpu", "memory")}
    requests = (*((name, amount) for name, amount in each.items() if amount), ("pods", 1))
    demand = Demand(PodShape(requests=requests), clusters=(cluster,))
    return PodSet(f"{cluster}/head-room", demand, count, desired=count)


def _amount(resource: str, text: str, asked: int) -> int:
    if is_part(text):
        return -(-asked * int(text[:-1]) // _WHOLE)
    return resource_amount(resource, text)


def _requested(nodes: Iterable[Node]) -> Counter[str]:
    """By all pods that may move: those of daemon sets come with each node."""
    found = Counter[str]()
    for node in nodes:
        for pod in node.pods:
            if not pod.daemon and not pod.leaving:
                found.update(dict(pod.demand.shape.requests))
    return found
