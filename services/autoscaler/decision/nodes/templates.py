"""What a new node of a group will be like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from services.autoscaler.decision.nodes.seen import Node, Template
from shared.events.v1.clusters import NodeGroup as DeclaredGroup
from shared.model.identities import NODE_GROUP_LABEL, ZONE_LABEL
from shared.model.resources import amount_of


def template_of(declared: DeclaredGroup, daemons: Mapping[str, int]) -> Template:
    """Less what daemon sets take."""
    given = declared.template
    there = {name: amount_of(name, text) for name, text in given.allocatable.items()}
    labels = {**given.labels, NODE_GROUP_LABEL: declared.name}
    return Template(
        allocatable={name: max(0, amount - daemons.get(name, 0)) for name, amount in there.items()},
        labels=labels,
        taints=given.taints,
        zone=labels.get(ZONE_LABEL, ""),
    )


def taken_by_daemons(nodes: Iterable[Node]) -> Mapping[str, int]:
    """What daemon sets take of a node: the most of any that there is."""
    most: Counter[str] = Counter()
    for node in nodes:
        taken: Counter[str] = Counter()
        for pod in node.pods:
            if pod.daemon:
                taken.update(dict(pod.demand.shape.requests))
        most |= taken
    return most
