"""The filter of volumes: a pod goes where the claims that it names are, and to nodes that reach their volumes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from services.scheduler.decision.interface import Reasons
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, Rows
from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.views import NodeView
from shared.model.pods import PodShape
from shared.model.selectors import NodeSelector


class VolumesAreReachable:
    """A claim that no cluster of the fleet has restricts nothing: it may come with the pods, or is not watched."""

    name = "volumes"
    dynamic = False

    def __init__(self, shape: PodShape) -> None:
        self._claims = shape.claims

    def mask(self, view: NodeView) -> BoolArray:
        found = np.ones(len(view.rows), np.bool_)
        for claim in self._claims:
            there, reached, provided = self._of(claim, view)
            found &= there & reached & provided
        return found

    def reasons(self, view: NodeView) -> Reasons:
        for claim in self._claims:
            there, reached, provided = self._of(claim, view)
            yield f"node(s) in clusters without persistentvolumeclaim {claim!r}", ~there
            yield "node(s) had volume node affinity conflict", there & ~reached
            yield "node(s) didn't find available persistent volumes to bind", there & ~provided

    def _of(self, claim: str, view: NodeView) -> tuple[BoolArray, BoolArray, BoolArray]:
        """By row whether its cluster has the claim, whether the node reaches the volume if there is one, and whether
        one may be provided there if there is none.
        """
        table, rows = view.table, view.rows
        where = table.volumes.clusters_of(claim)
        there, reached, provided = (np.ones(len(rows), np.bool_) for _ in range(3))
        if not where:
            return there, reached, provided
        clusters = table.block_cluster[rows // BLOCK]
        there = np.isin(clusters, list(where))
        for cluster, (bound, selector) in where.items():
            if selector is not None:
                positions = np.flatnonzero(clusters == cluster)
                (reached if bound else provided)[positions] = _matching(selector, table, rows[positions])
        return there, reached, provided


def _matching(selector: NodeSelector, table: NodeTable, rows: Rows) -> BoolArray:
    """Local volumes name single nodes, so each node is asked, with its labels copied once for its class."""
    labels: dict[int, Mapping[str, str]] = {}
    found = np.zeros(len(rows), np.bool_)
    for position, (row, number) in enumerate(zip(rows.tolist(), table.node_class[rows].tolist(), strict=True)):
        name = table.names[row]
        of_node = labels.get(number)
        if of_node is None:
            node_class = table.classes[number]
            of_node = node_class.labels_of(name)
            if not node_class.named:
                labels[number] = of_node
        found[position] = bool(table.alive[row]) and selector.matches(of_node, name)
    return found
