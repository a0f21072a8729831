"""Why no node passes for pods of one shape: a reason for programs, and a message in the words of kube-scheduler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from services.scheduler.decision.clusters import ClusterTable
from services.scheduler.decision.interface import Filter, PluginError
from services.scheduler.decision.scoring.kept import KeptCosts
from services.scheduler.decision.table.arrays import BLOCK, Rows
from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.views import NodeView

NO_CLUSTER = "NoCluster"
UNSCHEDULABLE = "Unschedulable"
PLUGIN_FAILED = "PluginFailed"


class Unfit:
    """Says it of the `costs` of one profile, which it does not hold: a profile that nobody needs ends at once.

    Kept until anything changes that decides where such a pod may go; what facts refuse, until these change.
    """

    def __init__(self, table: NodeTable, clusters: ClusterTable) -> None:
        self._table = table
        self._clusters = clusters
        self._explanation = ("", "")
        self._explained = (-1, -1, -1, -1)
        self._fact_reasons: tuple[tuple[int, int, int], Counter[str], str] | None = None

    def explain(self, costs: KeptCosts) -> tuple[str, str]:
        """Why no node passes: a reason for programs, and a message in the words of kube-scheduler.

        A node counts for the first filter that refuses it, facts before what runs there, and for each of its reasons.
        """
        costs.refresh()
        table = self._table
        if costs.broken:
            return PLUGIN_FAILED, f"0/{table.count} nodes are available: {costs.broken}."
        version = costs.version
        if version != self._explained:
            try:
                self._explanation = self._explain(costs)
            except PluginError as error:
                return PLUGIN_FAILED, f"0/{table.count} nodes are available: {error}."
            self._explained = version
        return self._explanation

    def _explain(self, costs: KeptCosts) -> tuple[str, str]:
        if self._fact_reasons is None or self._fact_reasons[0] != costs.facts_version:
            self._fact_reasons = costs.facts_version, *self._explain_facts(costs)
        counts, reason = self._fact_reasons[1].copy(), self._fact_reasons[2]
        shortage = costs.shortage()
        for text, count in shortage.counts():
            counts[text] += count
        self._count_reasons(costs, costs.further_filters, shortage.passing, counts)
        parts = ", ".join(sorted(f"{count} {text}" for text, count in counts.items() if count))
        head = f"0/{self._table.count} nodes are available"
        return reason, f"{head}: {parts}." if parts else f"{head}."

    def _explain_facts(self, costs: KeptCosts) -> tuple[Counter[str], str]:
        """How many nodes have which reason, whatever runs there; and whether any cluster takes such pods."""
        table = self._table
        rows = np.flatnonzero(table.alive)
        counts: Counter[str] = Counter()
        open_blocks = costs.open_blocks() if table.rows else np.zeros(0, np.bool_)
        reason = UNSCHEDULABLE if any(costs.accepts(cluster) for cluster in self._clusters) else NO_CLUSTER
        block_cluster = table.block_cluster[rows // BLOCK]
        for cluster in self._clusters:
            if refusal := costs.refusal(cluster):
                counts[f"node(s) in clusters that {refusal}"] += int(np.count_nonzero(block_cluster == cluster.index))
        self._count_reasons(costs, costs.fact_filters, rows[open_blocks[rows // BLOCK]], counts)
        return counts, reason

    def _count_reasons(self, costs: KeptCosts, filters: Iterable[Filter], rows: Rows, counts: Counter[str]) -> None:
        for item in filters:
            view = NodeView(self._table, rows, costs.request)
            mask = item.mask(view)
            if mask.all():
                continue
            for text, refused in item.reasons(view):
                counts[text] += int(np.count_nonzero(refused))
            rows = rows[mask]
