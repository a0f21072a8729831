"""What pods of one shape cost on every node, kept up to date by difference.

For every row of the node table its cost, infinite where a filter refuses, and for every block its cheapest row. When
these are asked for, the rows that changed since the last time are renewed, and their blocks; so a placement costs what
changed, not the fleet, and still every node is scored.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.clusters import Cluster, ClusterTable
from services.scheduler.decision.config import Fit, SchedulerConfig
from services.scheduler.decision.interface import CostTerm, Filter, PluginError, make_cost, make_filter
from services.scheduler.decision.scoring.constraints import Constraints
from services.scheduler.decision.scoring.costs import TIE_WEIGHT, costs_for
from services.scheduler.decision.scoring.facts import FactCosts
from services.scheduler.decision.scoring.filters import TaintsAreTolerated, filters_for
from services.scheduler.decision.scoring.kernel import (
    USAGE_TERMS,
    add_parts,
    renew,
    renew_beside,
    renew_blocks,
    usage_cost,
)
from services.scheduler.decision.scoring.mix import DemandMix
from services.scheduler.decision.scoring.shortage import Shortage
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray, Rows, grown
from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.requests import Request
from services.scheduler.decision.table.views import NodeView
from shared.model.selectors import LabelSelector

# Changes with everything that costs depend on, but what runs on nodes.
FactsVersion = tuple[int, float, int, int, int, int, int, int]


class Parts(NamedTuple):
    """What all profiles of a fleet look at."""

    table: NodeTable
    clusters: ClusterTable
    mix: DemandMix
    config: SchedulerConfig
    fact_costs: FactCosts


class KeptCosts:
    """See the module. `request` is what each pod takes; `broken` what a plug-in did instead of answering, the last time
    that rows were computed.
    """

    def __init__(self, demand: Demand, request: Request, parts: Parts, constraints: Constraints | None = None) -> None:
        self.demand = demand
        self._constraints = constraints
        self.request = request
        self._table, self._clusters, self._mix, self._config, self._fact_costs = parts
        self._taints = TaintsAreTolerated(demand.shape)
        self._selector = LabelSelector.model_validate_json(demand.selector) if demand.selector else None
        self.broken = ""
        self._make_terms()
        weights = self._config.weights
        # What the kernel is told of the configuration, and of the request as the table's columns are now.
        told: FloatArray = np.array(
            (weights.fit, weights.balance, weights.fragmentation, weights.expected_fragmentation), np.float64
        )
        self._usage_terms = [*zip(USAGE_TERMS, told.tolist(), strict=True)]
        # What changes all rows at once, if the profile depends on it.
        self._follows_mix = weights.expected_fragmentation > 0
        self._follows_others = self._follows_mix or bool(demand.shape.images or demand.shape.claims)
        self._others_seen = self._others()
        self.weights = (told, self._config.fit is Fit.MOST_ALLOCATED)
        self._asked = (request.vector, request.floor, request.devices, request.milli)
        self._cost: FloatArray = np.zeros(0, np.float64)
        # Without what rules between pods add. Where there are none it is the same.
        self._alone = self._cost
        # Of facts alone: their part of the cost, infinite where a filter refuses. As long as it is not owned
        # others may read it as well.
        self._base: FloatArray = np.zeros(0, np.float64)
        self._owns_base = True
        self._block_cost: FloatArray = np.zeros(0, np.float64)
        self._block_row: Rows = np.zeros(0, np.intp)
        self._price_scale = 0.0
        self._width = 0
        self._facts_seen = -1
        self.usage_seen = -1
        self._open: BoolArray = np.zeros(0, np.bool_)
        self._all_open = False
        self._open_version = (-1, -1, -1)
        self._in_kernel_at: FactsVersion | None = None
        self._candidates: tuple[tuple[int, int, int], Rows] | None = None
        self._shortage: tuple[tuple[int, int, int, int], Shortage] | None = None

    # --- clusters ---

    def allows(self, cluster: Cluster) -> bool:
        """Whether the terms allow a cluster, ready or not."""
        demand = self.demand
        if demand.clusters and cluster.name not in demand.clusters:
            return False
        return self._selector is None or self._selector.matches(cluster.labels)

    def accepts(self, cluster: Cluster) -> bool:
        """Whether a cluster takes new replicas of this profile now."""
        return not self.refusal(cluster)

    def refusal(self, cluster: Cluster) -> str:
        """Why a cluster takes no new replicas of this profile, in words that follow `node(s) in clusters that`."""
        if not self.allows(cluster):
            return "were not selected"
        if cluster.refusal:
            return cluster.refusal
        taint = self._taints.untolerated(cluster.taints)
        return f"had untolerated taint {{{taint.key}: {taint.value}}}" if taint else ""

    def open_blocks(self) -> BoolArray:
        """Whether each block's cluster takes new replicas of this profile."""
        version = (self._clusters.version, self._table.layout, len(self._table.block_cluster))
        if version != self._open_version:
            accepting = np.fromiter((self.accepts(cluster) for cluster in self._clusters), np.bool_)
            self._open = accepting[self._table.block_cluster]
            self._all_open = bool(self._open.all())
            self._open_version = version
        return self._open

    # --- keeping up ---

    def refresh(self) -> None:
        """Renews what changed since the last time."""
        table = self._table
        facts, usage = table.facts_log, table.usage_log
        if self.broken:
            # Perhaps it was a passing trouble. Every row is asked for: which ones were not judged is not known.
            self._make_terms()
            self._rebuild()
            return
        if self._follows_others and self._others_seen != self._others():
            self._rebuild()
            return
        if self._facts_seen == facts.end and self._price_scale == table.price_scale:
            if self.usage_seen == usage.end:
                return
            rows = usage.since(self.usage_seen)
            if rows is not None and len(rows) <= table.rows and self._width == table.columns.width:
                self.usage_seen = usage.end
                if self._constraints is None:
                    self._renew(rows)
                elif (changed := self._constraints.update(rows)) is not None:
                    self._renew(changed, len(rows))
                else:
                    self._rebuild()
                return
        self._refresh_facts()

    def _others(self) -> tuple[int, int, int]:
        images = self._table.images.version if self.demand.shape.images else 0
        return self._mix.version if self._follows_mix else 0, images, self._volumes_version()

    def _volumes_version(self) -> int:
        return self._table.volumes.version if self.demand.shape.claims else 0

    def _refresh_facts(self) -> None:
        table = self._table
        self._in_kernel_at = None
        facts, usage = table.facts_log.since(self._facts_seen), table.usage_log.since(self.usage_seen)
        other = self._width != table.columns.width or self._price_scale != table.price_scale
        if other or facts is None or usage is None or len(facts) + len(usage) > max(BLOCK, table.rows):
            self._rebuild()
            return
        self._facts_seen, self.usage_seen = table.facts_log.end, table.usage_log.end
        if len(self._cost) != table.rows:
            self._fit_rows()
        if len(facts):
            if not self._owns_base:
                self._base, self._owns_base = self._base.copy(), True
            self._base[facts] = self._fact_cost(facts)
        if self._constraints is None:
            self._renew(np.concatenate((usage, facts)))
        elif (changed := self._constraints.update(usage, facts)) is not None:
            self._renew(changed, len(usage) + len(facts))
        else:
            self._rebuild()

    def _rebuild(self) -> None:
        table, request = self._table, self.request
        self._in_kernel_at = None
        self._width, self._price_scale = table.columns.width, table.price_scale
        self._facts_seen, self.usage_seen = table.facts_log.end, table.usage_log.end
        self._asked = (request.vector, request.floor, request.devices, request.milli)
        self._others_seen = self._others()
        self._fit_rows()
        rows = np.arange(table.rows)
        self._base = self._fact_costs.of(self.demand.shape, table, lambda: self._fact_cost(rows))
        self._owns_base, self._candidates = False, None
        if self._constraints is not None:
            self._constraints.rebuild()
        self._block_cost.fill(np.inf)
        self._renew(rows)

    def _fit_rows(self) -> None:
        rows, blocks = self._table.rows, self._table.blocks
        self._cost = grown(self._cost, (rows,), np.inf)
        self._alone = grown(self._alone, (rows,), np.inf) if self._constraints is not None else self._cost
        self._base, self._owns_base = grown(self._base, (rows,), np.inf), True
        self._block_cost = grown(self._block_cost, (blocks,), np.inf)
        self._block_row = grown(self._block_row, (blocks,))

    def _renew(self, rows: Rows, moved: int = -1) -> None:
        """Computes rows anew, which may repeat, and the cheapest of their blocks. Of those behind the first `moved`, if
        that is said, only rules between pods say something else.
        """
        table, request, between = self._table, self.request, self._constraints
        mix = (self._mix.classes, self._mix.frequency, self._mix.leftover)
        rest = (*table.usage, *self._asked, table.columns.gpu_column, *self.weights, *mix)
        blocks = (self._cost, self._block_cost, self._block_row)
        plain = not (request.missing or self._moving_filters or self._moving_terms)
        if plain and between is None:
            renew(rows, self._base, self._cost, *rest, *blocks[1:])
        elif plain and between is not None:
            moved = moved if moved >= 0 else len(rows)
            renew_beside(rows, moved, self._base, self._alone, *rest, between.stirred, between.part, *blocks)
        else:
            if request.missing:
                self._alone[rows] = np.inf
            else:
                usage_cost(rows, self._base, self._alone, *rest)
            if self._moving_filters or self._moving_terms:
                self._apply_moving(rows)
            if between is not None:
                add_parts(rows, between.stirred, self._alone, between.part, *blocks)
            else:
                renew_blocks(rows, *blocks)

    def _apply_moving(self, rows: Rows) -> None:
        """What depends on what runs on a node, and is not in the kernel."""
        view = NodeView(self._table, rows, self.request)
        cost = self._alone[rows]
        for term, weight in self._moving_terms:
            cost = cost + weight * self._cost_of(term, view)
        for item in self._moving_filters:
            cost = np.where(self._mask_of(item, view), cost, np.inf)
        self._alone[rows] = cost

    def _fact_cost(self, rows: Rows) -> FloatArray:
        view = NodeView(self._table, rows, self.request)
        passes = self._table.alive[rows]
        for item in self.fact_filters:
            passes = passes & self._mask_of(item, view)
        cost = TIE_WEIGHT * self._table.order[rows]
        for term, weight in self._fact_terms:
            cost = cost + weight * self._cost_of(term, view)
        return np.where(passes, cost, np.inf)

    # --- filters and terms ---

    def _make_terms(self) -> None:
        self.broken = ""
        shape, request = self.demand.shape, self.request
        filters, terms = filters_for(shape, request), costs_for(shape, request, self._config)
        try:
            made_filters = (make_filter(plugin, shape, request) for plugin in self._config.filters)
            filters += [item for item in made_filters if item is not None]
            weighing = [plugin for plugin in self._config.costs if plugin.weight]
            made_terms = ((make_cost(plugin, shape, request), plugin.weight) for plugin in weighing)
            terms += [(term, weight) for term, weight in made_terms if term is not None]
        except PluginError as error:
            self.broken = str(error)
        self.fact_filters = [item for item in filters if not item.dynamic]
        self._moving_filters = [item for item in filters if item.dynamic]
        self.further_filters = [*self._moving_filters]
        if self._constraints is not None:
            self.further_filters += self._constraints.filters
        # As they stand in explanations, also where the configuration has whole numbers.
        weighed = [(term, float(weight)) for term, weight in terms]
        self._fact_terms = [(term, weight) for term, weight in weighed if not term.dynamic]
        self._moving_terms = [(term, weight) for term, weight in weighed if term.dynamic]

    def _mask_of(self, item: Filter, view: NodeView) -> BoolArray:
        """A plug-in that fails refuses nothing by itself: what runs stays where it is, and `best` finds nothing."""
        try:
            return item.mask(view)
        except PluginError as error:
            self.broken = str(error)
            return np.ones(len(view.rows), np.bool_)

    def _cost_of(self, term: CostTerm, view: NodeView) -> FloatArray:
        try:
            return term.cost(view)
        except PluginError as error:
            self.broken = str(error)
            return np.zeros(len(view.rows), np.float64)

    # --- what it is as of ---

    @property
    def facts_version(self) -> tuple[int, int, int]:
        """Changes with everything but what runs on nodes that decides where such a pod may go."""
        return self._table.facts_log.end, self._clusters.version, self._volumes_version()

    @property
    def version(self) -> tuple[int, int, int, int]:
        """Changes with everything that decides where such a pod may go."""
        return *self.facts_version, self._table.usage_log.end

    def candidates(self) -> Rows:
        """The rows that pass whatever runs on them, in clusters that take such pods; as of the last `refresh`."""
        if self._candidates is None or self._candidates[0] != self.facts_version:
            rows, blocks = np.flatnonzero(self._base != np.inf), self.open_blocks()
            self._candidates = self.facts_version, rows if self._all_open else rows[blocks[rows // BLOCK]]
        return self._candidates[1]

    def shortage(self) -> Shortage:
        """Which of the `candidates` have no room; as of the last `refresh`."""
        if self._shortage is None or self._shortage[0] != self.version:
            self._shortage = self.version, Shortage(self._table, self.request, self.candidates())
        return self._shortage[1]
