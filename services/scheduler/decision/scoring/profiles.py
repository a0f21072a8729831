"""The cheapest node for each shape, kept up to date by difference.

A profile is what all pod sets of one shape and one selection of clusters share: for every row of the node table its
cost, infinite where a filter refuses, and for every block its cheapest row. When it is asked, it renews the rows
that changed since it was asked last, and their blocks; so a placement costs what changed, not the fleet, and still
every node is scored.

Exactness: `best` is the argmin over all nodes of cost plus spread, since within a block the spread is the same, and
adding the same number keeps the order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.clusters import Cluster, ClusterTable
from services.scheduler.decision.config import Fit, SchedulerConfig
from services.scheduler.decision.interface import CostTerm, Filter, PluginError, make_cost, make_filter
from services.scheduler.decision.scoring.constraints import Constraints
from services.scheduler.decision.scoring.costs import TIE_WEIGHT, costs_for
from services.scheduler.decision.scoring.facts import FactCosts
from services.scheduler.decision.scoring.filters import SelectorMatches, TaintsAreTolerated, filters_for
from services.scheduler.decision.scoring.kernel import (
    USAGE_TERMS,
    add_parts,
    choose,
    compare,
    renew,
    renew_beside,
    renew_blocks,
    usage_cost,
)
from services.scheduler.decision.scoring.mix import DemandMix
from services.scheduler.decision.scoring.prices import replica_prices
from services.scheduler.decision.scoring.shortage import Shortage
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray, IntArray, Rows, grown
from services.scheduler.decision.table.neighbours import About, Neighbours
from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.requests import Request, Requests
from services.scheduler.decision.table.views import NodeView
from shared.events.v1.decisions import Refusal
from shared.model.pods import PodShape
from shared.model.selectors import LabelSelector

# Profiles are kept for this many rows in all (16 bytes each), but never fewer profiles than these.
_CACHED_ROWS = 32_000_000
_FEWEST_PROFILES = 16
# So many arrays are kept that others begin with.
_SHARED_FACTS = 8

_NO_LIMIT = 2**63 - 1
_INFINITE = float("inf")
# More than any node runs of one shape, and small enough to be added up.
_MUCH = 1_000_000_000
NOTHING = About()
# Changes with everything that costs depend on, but what runs on nodes.
FactsVersion = tuple[int, float, int, int, int, int]
# Costs, their parts that are facts, costs and rows of blocks, which blocks are open; what is asked, and must be free.
Arrays = tuple[FloatArray, FloatArray, FloatArray, Rows, BoolArray, IntArray, IntArray]

NO_CLUSTER = "NoCluster"
UNSCHEDULABLE = "Unschedulable"
PLUGIN_FAILED = "PluginFailed"
# Of the costs in an explanation.
DIGITS = 6
# What rules between pods cost together, by name in an explanation.
BETWEEN_PODS = "between_pods"


class Comparison(NamedTuple):
    """A row where a pod is to go, beside the runner-up, which is None if no other passes; then the row itself is it.

    What the pod costs on each, and the terms of these costs without spread: by name the weight, and the value on each,
    rounded to `DIGITS`. Terms that are zero on both are left out.
    """

    runner_up: int | None
    cost: float
    cost_beside: float
    terms: dict[str, tuple[float, float, float]]


class Profile:
    """See the module. `request` is what each pod takes."""

    def __init__(
        self,
        demand: Demand,
        request: Request,
        table: NodeTable,
        clusters: ClusterTable,
        mix: DemandMix,
        config: SchedulerConfig,
        fact_costs: FactCosts,
        constraints: Constraints | None = None,
    ) -> None:
        self.demand = demand
        self._fact_costs = fact_costs
        self._constraints = constraints
        self.request = request
        self._table = table
        self._clusters = clusters
        self._mix = mix
        self._config = config
        self._taints = TaintsAreTolerated(demand.shape)
        self._selector = LabelSelector.model_validate_json(demand.selector) if demand.selector else None
        # What a plug-in did instead of answering, the last time that rows were computed.
        self._broken = ""
        self._make_terms()
        weights = config.weights
        # What the kernel is told of the configuration, and of the request as the table's columns are now.
        parts: FloatArray = np.array(
            (weights.fit, weights.balance, weights.fragmentation, weights.expected_fragmentation), np.float64
        )
        weighed = zip(USAGE_TERMS, parts.tolist(), strict=True)
        self._usage_terms = [(number, name, weight) for number, (name, weight) in enumerate(weighed) if weight]
        # What changes all rows at once, if the profile depends on it.
        self._follows_mix = weights.expected_fragmentation > 0
        self._follows_others = self._follows_mix or bool(demand.shape.images or demand.shape.claims)
        self._others_seen = self._others()
        self.weights = (parts, config.fit is Fit.MOST_ALLOCATED)
        self._asked = (request.vector, request.floor, request.devices, request.milli)
        self._cost: FloatArray = np.zeros(0, np.float64)
        # Without what rules between pods add. Where there are none it is the same.
        self._alone = self._cost
        # Of facts alone: their part of the cost, infinite where one of their filters refuses.
        self._base: FloatArray = np.zeros(0, np.float64)
        self._block_cost: FloatArray = np.zeros(0, np.float64)
        self._block_row: Rows = np.zeros(0, np.intp)
        self._price_scale = 0.0
        self._width = 0
        self._facts_seen = -1
        self.usage_seen = -1
        self._open: BoolArray = np.zeros(0, np.bool_)
        self._all_open = False
        self._open_version = (-1, -1, -1)
        self._room_known: tuple[object, int] = (None, 0)
        self._prices_known: tuple[object, IntArray] = (None, np.zeros(0, np.int64))
        self._lowest_known: tuple[object, int | None] = (None, None)
        self._in_kernel_at: FactsVersion | None = None
        self._shortage: tuple[tuple[int, int, int, int], Shortage] | None = None
        self._explanation = ("", "")
        self._explained = (-1, -1, -1, -1)
        self._fact_reasons: tuple[tuple[int, int, int], Counter[str], str] | None = None
        # Kept here by `explanations`, with what they depend on.
        self.known_refusals: tuple[tuple[object, ...], tuple[tuple[Refusal, ...], int]] | None = None
        self.known_fact_refusals: tuple[tuple[object, ...], tuple[Refusal, ...]] | None = None

    # --- asking ---

    def best(self, spread: FloatArray | None = None, avoid: Collection[int] = ()) -> int | None:
        """The row where the next pod costs least, or None where no node passes.

        `spread` is a further cost for each domain; `avoid` are indexes of clusters that are left out. Where a plug-in
        failed it is None as well: nobody knows better.
        """
        self.refresh()
        if self._broken or not len(self._block_cost):
            return None
        costs = self._costs_of_blocks(spread, avoid, self._block_cost)
        block = costs.argmin()
        return self._block_row.item(block) if costs.item(block) != _INFINITE else None

    def best_within(self, only: BoolArray, spread: FloatArray | None = None, avoid: Collection[int] = ()) -> int | None:
        """As `best`, of the rows in `only`; it looks at all of them."""
        self.refresh()
        if self._broken or not len(self._block_cost):
            return None
        _, costs, rows = self._blocks_within(only)
        costs = self._costs_of_blocks(spread, avoid, costs)
        block = costs.argmin()
        return rows.item(block) if costs.item(block) != _INFINITE else None

    def compare(
        self,
        row: int,
        spread: FloatArray | None = None,
        avoid: Collection[int] = (),
        only: BoolArray | None = None,
    ) -> Comparison:
        """The row that `best` has named, or `best_within`, beside the one that it would name otherwise. Nothing changed
        since then.
        """
        table, request = self._table, self.request
        costs_of_rows, block_cost, block_row = self._cost, self._block_cost, self._block_row
        if only is not None:
            costs_of_rows, block_cost, block_row = self._blocks_within(only)
        extra = self._of_block(row) + (float(spread[table.domain_of(row)]) if spread is not None else 0.0)
        asked = (request.vector, request.devices, request.milli, table.columns.gpu_column)
        found, here, there, rows = compare(
            row,
            self._costs_of_blocks(spread, avoid, block_cost),
            block_row,
            costs_of_rows,
            self._base,
            table.order,
            extra,
            *table.usage,
            *asked,
            *self.weights,
            self._mix.classes,
            self._mix.frequency,
            self._mix.leftover,
        )
        return self._comparison(row, found, here, there, rows)

    def choose(self, avoid: Collection[int] = ()) -> tuple[int, Comparison] | None:
        """What `best` says, and `compare` of it."""
        if self._constraints is None or avoid:
            row = self.best(None, avoid)
            return (row, self.compare(row, None, avoid)) if row is not None else None
        self.refresh()
        if self._broken or not len(self._block_cost):
            return None
        table, request = self._table, self.request
        asked = (request.vector, request.devices, request.milli, table.columns.gpu_column)
        chosen, found, here, there, numbers = choose(
            self.open_blocks(),
            self._constraints.blocks,
            self._block_cost,
            self._block_row,
            self._cost,
            self._base,
            table.order,
            *table.usage,
            *asked,
            *self.weights,
            self._mix.classes,
            self._mix.frequency,
            self._mix.leftover,
        )
        return (chosen, self._comparison(chosen, found, here, there, numbers)) if chosen >= 0 else None

    def _comparison(
        self, row: int, found: int, here: Sequence[float], there: Sequence[float], numbers: Sequence[float]
    ) -> Comparison:
        """Of what the kernel says."""
        second = found if found >= 0 else row
        cost, cost_beside, base, base_beside, order, order_beside = numbers
        facts = base != TIE_WEIGHT * order or base_beside != TIE_WEIGHT * order_beside
        orders = round(order, DIGITS), round(order_beside, DIGITS)
        terms = self.kernel_terms(row, second, (*here, *there), orders, facts=facts)
        if self._moving_terms:
            terms |= self._values_of(self._moving_terms, row, second)
        if self._constraints is not None:
            part = self._constraints.part
            # Weighted already, each by its own weight.
            mine, other = part.item(row) + self._of_block(row), part.item(second) + self._of_block(second)
            if mine or other:
                terms[BETWEEN_PODS] = (1.0, round(mine, DIGITS), round(other, DIGITS))
            cost, cost_beside = cost + self._of_block(row), cost_beside + self._of_block(second)
        return Comparison(found if found >= 0 else None, cost, cost_beside, terms)

    def kernel_terms(
        self,
        row: int,
        second: int,
        usage: Sequence[float],
        orders: tuple[float, float],
        *,
        facts: bool,
    ) -> dict[str, tuple[float, float, float]]:
        """The terms of a row and another that the kernel knows: four of usage of one, and of the other. `facts` says
        that there are more.
        """
        terms = {"order": (TIE_WEIGHT, *orders)}
        if facts:
            terms |= self._values_of(self._fact_terms, row, second)
        for number, name, weight in self._usage_terms:
            value, beside = usage[number], usage[number + 4]
            if value or beside:
                terms[name] = (weight, value, beside)
        return terms

    def _values_of(
        self, terms: Iterable[tuple[CostTerm, float]], row: int, other: int
    ) -> dict[str, tuple[float, float, float]]:
        view = NodeView(self._table, np.array((row, other), np.intp), self.request)
        values = ((term.name, weight, *self._cost_of(term, view).tolist()) for term, weight in terms)
        return {
            name: (weight, round(here, DIGITS), round(there, DIGITS))
            for name, weight, here, there in values
            if weight and (here or there)
        }

    def _of_block(self, row: int) -> float:
        """What a row costs beside what is kept for it: rules between pods that are the same for its whole block."""
        return self._constraints.blocks.item(row // BLOCK) if self._constraints is not None else 0.0

    def _blocks_within(self, only: BoolArray) -> tuple[FloatArray, FloatArray, Rows]:
        """Costs of rows, infinite for those that are not in `only`; by block the least of them, and its row."""
        costs = np.where(only, self._cost, np.inf)
        by_block = costs.reshape(-1, BLOCK)
        first = np.arange(len(by_block)) * BLOCK
        rows = np.asarray(first + by_block.argmin(axis=1), np.intp)
        return costs, costs[rows], rows

    def _costs_of_blocks(self, spread: FloatArray | None, avoid: Collection[int], costs: FloatArray) -> FloatArray:
        """What the cheapest row of each block costs, infinite where none may be taken; `costs` are their own."""
        if spread is not None:
            costs = costs + spread[self._table.block_domain]
        if self._constraints is not None and self._constraints.by_block:
            costs = costs + self._constraints.blocks
        open_blocks = self.open_blocks()
        if not self._all_open:
            costs = np.where(open_blocks, costs, np.inf)
        for cluster in avoid:
            costs = np.where(self._table.block_cluster == cluster, np.inf, costs)
        return costs

    def cost(self, row: int) -> float:
        """What the next pod costs on a row, without spread; infinite where it does not fit."""
        self.refresh()
        return float(self._cost[row]) + self._of_block(row)

    def base(self, row: int) -> float:
        """The part of a row's cost that does not depend on what runs there; infinite where it must not run."""
        self.refresh()
        return float(self._base[row])

    def open_rows(self) -> BoolArray:
        """Where such a pod may run, whatever runs there; of its cluster nothing is said."""
        self.refresh()
        none = np.zeros(len(self._base), np.bool_)
        return none if self._broken or self.request.missing else np.asarray(self._base != np.inf)

    def passing(self, spread: FloatArray | None = None, avoid: Collection[int] = ()) -> BoolArray:
        """The rows that the next pod may have; `spread` and `avoid` leave some out, as for `best`."""
        self.refresh()
        if self._broken or not len(self._block_cost):
            return np.zeros(len(self._cost), np.bool_)
        blocks = self._costs_of_blocks(spread, avoid, np.zeros(len(self._block_cost)))
        return np.asarray((self._cost != np.inf) & np.repeat(blocks != np.inf, BLOCK))

    def prices(self) -> IntArray:
        """What such a pod costs an hour on each row."""
        known = self._table.facts_log.end, self._table.columns.width
        if self._prices_known[0] != known:
            self._prices_known = known, replica_prices(self._table, self.request)
        return self._prices_known[1]

    def lowest_price(self) -> int | None:
        """The least that the next pod costs an hour on any row that it may have; None where there is none."""
        self.refresh()
        # The rules between pods, and plug-ins, may look at more.
        steady = self._constraints is None and not self._broken
        if not steady or self._lowest_known[0] != self.version:
            prices = self.prices()[self.passing()]
            self._lowest_known = self.version, int(prices.min()) if len(prices) else None
        return self._lowest_known[1]

    def has_room(self, avoid: Collection[int] = ()) -> bool:
        return self.best(avoid=avoid) is not None

    def room(self, rows: Rows) -> Rows:
        """How many such pods fit on each row, one beside the other."""
        self.refresh()
        view = NodeView(self._table, rows, self.request)
        vector = self.request.vector
        asked = vector > 0
        count = np.full(len(rows), _NO_LIMIT, np.int64)
        if asked.any():
            count = (view.free[:, asked] // vector[asked]).min(axis=1)
        if self.request.devices:
            count = np.minimum(count, self._table.devices.room(rows, self.request.devices, self.request.milli))
        if self.request.ports:
            count = np.minimum(count, 1)
        return np.where(np.isfinite(self._cost[rows]), count, 0)

    def room_in_all(self, avoid: Collection[int] = ()) -> int:
        """How many such pods fit at most in clusters that take them, but those in `avoid`.

        Rules between pods may open nodes as pods come: with any, it is not known before it is tried.
        """
        if self._constraints is not None:
            return _NO_LIMIT
        self.refresh()
        known = (self.version, tuple(sorted(avoid)))
        if self._room_known[0] != known:
            taken = self.open_blocks() & ~np.isin(self._table.block_cluster, list(avoid))
            blocks = np.flatnonzero(taken)
            room = self.room((blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel())
            self._room_known = known, int(np.minimum(room, _MUCH).sum())
        return self._room_known[1]

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

    # --- by the kernel alone ---

    def in_kernel(self, now: FactsVersion) -> bool:
        """Whether `kernel.place_run` knows all that decides here. If so, nothing but usage is behind then."""
        if self._in_kernel_at != now or self._table.usage_log.end - self.usage_seen > self._table.rows:
            request = self.request
            if self._constraints or self._moving_filters or self._moving_terms or request.missing or request.ports:
                return False
            self.refresh()
            if self._broken or not len(self._block_cost):
                return False
            self._in_kernel_at = now
        return True

    def arrays(self) -> Arrays:
        """What the kernel reads of a profile, and renews."""
        request = self.request
        own = (self._cost, self._base, self._block_cost, self._block_row, self.open_blocks())
        return *own, request.vector, request.floor

    # --- keeping up ---

    def refresh(self) -> None:
        """Renews what changed since the last time."""
        table = self._table
        facts, usage = table.facts_log, table.usage_log
        if self._broken:
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
        if self._constraints is not None:
            self._constraints.rebuild()
        self._block_cost.fill(np.inf)
        self._renew(rows)

    def _fit_rows(self) -> None:
        rows, blocks = self._table.rows, self._table.blocks
        self._cost = grown(self._cost, (rows,), np.inf)
        self._alone = grown(self._alone, (rows,), np.inf) if self._constraints is not None else self._cost
        self._base = grown(self._base, (rows,), np.inf)
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
        self._broken = ""
        shape, request = self.demand.shape, self.request
        filters, terms = filters_for(shape, request), costs_for(shape, request, self._config)
        try:
            made_filters = (make_filter(plugin, shape, request) for plugin in self._config.filters)
            filters += [item for item in made_filters if item is not None]
            weighing = [plugin for plugin in self._config.costs if plugin.weight]
            made_terms = ((make_cost(plugin, shape, request), plugin.weight) for plugin in weighing)
            terms += [(term, weight) for term, weight in made_terms if term is not None]
        except PluginError as error:
            self._broken = str(error)
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
            self._broken = str(error)
            return np.ones(len(view.rows), np.bool_)

    def _cost_of(self, term: CostTerm, view: NodeView) -> FloatArray:
        try:
            return term.cost(view)
        except PluginError as error:
            self._broken = str(error)
            return np.zeros(len(view.rows), np.float64)

    # --- explaining ---

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
        rows = np.flatnonzero(self._base != np.inf)
        blocks = self.open_blocks()
        return rows if self._all_open else rows[blocks[rows // BLOCK]]

    def shortage(self) -> Shortage:
        """Which of the `candidates` have no room; as of the last `refresh`."""
        if self._shortage is None or self._shortage[0] != self.version:
            self._shortage = self.version, Shortage(self._table, self.request, self.candidates())
        return self._shortage[1]

    def explain(self) -> tuple[str, str]:
        """Why no node passes: a reason for programs, and a message in the words of kube-scheduler.

        A node counts for the first filter that refuses it, facts before what runs there, and for each of its reasons.
        """
        self.refresh()
        table = self._table
        if self._broken:
            return PLUGIN_FAILED, f"0/{table.count} nodes are available: {self._broken}."
        version = self.version
        if version != self._explained:
            try:
                self._explanation = self._explain()
            except PluginError as error:
                return PLUGIN_FAILED, f"0/{table.count} nodes are available: {error}."
            self._explained = version
        return self._explanation

    def _explain(self) -> tuple[str, str]:
        if self._fact_reasons is None or self._fact_reasons[0] != self.facts_version:
            self._fact_reasons = self.facts_version, *self._explain_facts()
        counts, reason = self._fact_reasons[1].copy(), self._fact_reasons[2]
        shortage = self.shortage()
        for text, count in shortage.counts():
            counts[text] += count
        self._count_reasons(self.further_filters, shortage.passing, counts)
        parts = ", ".join(sorted(f"{count} {text}" for text, count in counts.items() if count))
        head = f"0/{self._table.count} nodes are available"
        return reason, f"{head}: {parts}." if parts else f"{head}."

    def _explain_facts(self) -> tuple[Counter[str], str]:
        """How many nodes have which reason, whatever runs there; and whether any cluster takes such pods."""
        table = self._table
        rows = np.flatnonzero(table.alive)
        counts: Counter[str] = Counter()
        open_blocks = self.open_blocks() if table.rows else np.zeros(0, np.bool_)
        reason = UNSCHEDULABLE if any(self.accepts(cluster) for cluster in self._clusters) else NO_CLUSTER
        block_cluster = table.block_cluster[rows // BLOCK]
        for cluster in self._clusters:
            if refusal := self.refusal(cluster):
                counts[f"node(s) in clusters that {refusal}"] += int(np.count_nonzero(block_cluster == cluster.index))
        self._count_reasons(self.fact_filters, rows[open_blocks[rows // BLOCK]], counts)
        return counts, reason

    def _count_reasons(self, filters: Iterable[Filter], rows: Rows, counts: Counter[str]) -> None:
        for item in filters:
            view = NodeView(self._table, rows, self.request)
            mask = item.mask(view)
            if mask.all():
                continue
            for text, refused in item.reasons(view):
                counts[text] += int(np.count_nonzero(refused))
            rows = rows[mask]


class Profiles:
    """Profiles by demand; the least recently used one makes room."""

    def __init__(
        self,
        table: NodeTable,
        clusters: ClusterTable,
        requests: Requests,
        mix: DemandMix,
        neighbours: Neighbours,
        config: SchedulerConfig,
    ) -> None:
        self._neighbours = neighbours
        self._table = table
        self._clusters = clusters
        self._mix = mix
        self._requests = requests
        self._config = config
        # Plug-ins may judge by anything that a pod is.
        self._fact_costs = FactCosts(0 if config.filters or config.costs else _SHARED_FACTS)
        self._known: dict[Demand | tuple[Demand, About], Profile] = {}

    @property
    def facts_version(self) -> FactsVersion:
        table = self._table
        others = self._mix.version, table.images.version, table.volumes.version
        return table.facts_log.end, table.price_scale, table.columns.width, *others

    def get(self, demand: Demand, about: About = NOTHING) -> Profile:
        """`about`: what running pods want of such pods."""
        key = (demand, about) if about.terms else demand
        profile = self._known.pop(key, None)
        if profile is None:
            shape = demand.shape
            request = self._requests.intern(shape.requests, shape.gpu_milli, shape.host_ports)
            constraints = self._constraints(demand, request, about) if demand.rules or about.terms else None
            parts = (self._table, self._clusters, self._mix, self._config, self._fact_costs)
            profile = Profile(demand, request, *parts, constraints)
            # Each profile has two numbers for each row: the larger the fleet, the fewer of them are kept.
            limit = max(_FEWEST_PROFILES, min(self._config.cached_profiles, _CACHED_ROWS // max(self._table.rows, 1)))
            while len(self._known) >= limit:
                del self._known[next(iter(self._known))]
        self._known[key] = profile
        return profile

    def _constraints(self, demand: Demand, request: Request, about: About) -> Constraints:
        included = _Included(self._table, demand.shape, request)
        return Constraints(self._neighbours, demand.rules, about, self._config.weights, included)


class _Included:
    """What a spread constraint's policies ask of nodes."""

    def __init__(self, table: NodeTable, shape: PodShape, request: Request) -> None:
        self._table = table
        self._request = request
        self._selector = SelectorMatches(shape) if SelectorMatches.needed(shape) else None
        self._taints = TaintsAreTolerated(shape)

    def by_affinity(self, rows: Rows) -> BoolArray:
        if self._selector is None:
            return np.ones(len(rows), np.bool_)
        return self._selector.mask(NodeView(self._table, rows, self._request))

    def by_taints(self, rows: Rows) -> BoolArray:
        return self._taints.mask(NodeView(self._table, rows, self._request))
