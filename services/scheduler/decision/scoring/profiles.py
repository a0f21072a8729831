"""The cheapest node for each shape.

A profile is what all pod sets of one shape and one selection of clusters share: what such a pod costs on every node
(`kept`), and what is asked of that.

Exactness: `best` is the argmin over all nodes of cost plus spread, since within a block the spread is the same, and
adding the same number keeps the order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.interface import CostTerm
from services.scheduler.decision.scoring.constraints import Constraints
from services.scheduler.decision.scoring.costs import TIE_WEIGHT
from services.scheduler.decision.scoring.kept import FactsVersion, KeptCosts, Parts
from services.scheduler.decision.scoring.kernel import choose, compare
from services.scheduler.decision.scoring.prices import replica_prices
from services.scheduler.decision.scoring.unfit import Unfit
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray, IntArray, Rows
from services.scheduler.decision.table.requests import Request
from services.scheduler.decision.table.views import NodeView
from shared.events.v1.decisions import Refusal

_NO_LIMIT = 2**63 - 1
_INFINITE = float("inf")
# More than any node runs of one shape, and small enough to be added up.
_MUCH = 1_000_000_000
# Costs, their parts that are facts, costs and rows of blocks, which blocks are open; what is asked (`Request.told`).
Arrays = tuple[FloatArray, FloatArray, FloatArray, Rows, BoolArray, IntArray]

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


class Profile(KeptCosts):
    """See the module. `kernel_arrays` are its `arrays`, as long as it is `in_kernel`."""

    kernel_arrays: Arrays

    def __init__(self, demand: Demand, request: Request, parts: Parts, constraints: Constraints | None = None) -> None:
        super().__init__(demand, request, parts, constraints)
        self._room_known: tuple[object, int] = (None, 0)
        self._prices_known: tuple[object, IntArray] = (None, np.zeros(0, np.int64))
        self._lowest_known: tuple[object, int | None] = (None, None)
        self._unfit = Unfit(parts.table, parts.clusters)
        # As of this version nothing passes; kept by `placing.single`, of profiles that are `in_kernel`.
        self.stuck_at: tuple[int, int, int, int] | None = None
        # Kept here by `explanations`, with what they depend on.
        self.known_refusals: tuple[tuple[object, ...], tuple[tuple[Refusal, ...], int]] | None = None
        self.known_fact_refusals: tuple[tuple[object, ...], tuple[Refusal, ...]] | None = None

    def best(self, spread: FloatArray | None = None, avoid: Collection[int] = ()) -> int | None:
        """The row where the next pod costs least, or None where no node passes.

        `spread` is a further cost for each domain; `avoid` are indexes of clusters that are left out. Where a plug-in
        failed it is None as well: nobody knows better.
        """
        self.refresh()
        if self.broken or not len(self._block_cost):
            return None
        costs = self._costs_of_blocks(spread, avoid, self._block_cost)
        block = costs.argmin()
        return self._block_row.item(block) if costs.item(block) != _INFINITE else None

    def best_within(self, only: BoolArray, spread: FloatArray | None = None, avoid: Collection[int] = ()) -> int | None:
        """As `best`, of the rows in `only`; it looks at all of them."""
        self.refresh()
        if self.broken or not len(self._block_cost):
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
        if self.broken or not len(self._block_cost):
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
        terms = self.kernel_terms(row, second, (*here, *there), *orders, facts=facts)
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
        order: float,
        order_beside: float,
        *,
        facts: bool,
    ) -> dict[str, tuple[float, float, float]]:
        """The terms of a row and another that the kernel knows: four of usage of one, and of the other. `facts` says
        that there are more.
        """
        terms = {"order": (TIE_WEIGHT, order, order_beside)}
        if facts:
            terms |= self._values_of(self._fact_terms, row, second)
        for (name, weight), value, beside in zip(self._usage_terms, usage, usage[4:8], strict=False):
            if weight and (value or beside):
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
        return none if self.broken or self.request.missing else np.asarray(self._base != np.inf)

    def passing(self, spread: FloatArray | None = None, avoid: Collection[int] = ()) -> BoolArray:
        """The rows that the next pod may have; `spread` and `avoid` leave some out, as for `best`."""
        self.refresh()
        if self.broken or not len(self._block_cost):
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
        steady = self._constraints is None and not self.broken
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

    def explain(self) -> tuple[str, str]:
        """Why no node passes; see `Unfit`."""
        return self._unfit.explain(self)

    # --- by the kernel alone ---

    def in_kernel(self, now: FactsVersion) -> bool:
        """Whether `kernel.place_run` knows all that decides here. If so, nothing but usage is behind then."""
        if self._in_kernel_at != now or self._table.usage_log.end - self.usage_seen > self._table.rows:
            request = self.request
            if self._constraints or self._moving_filters or self._moving_terms or request.missing or request.ports:
                return False
            self.refresh()
            if self.broken or not len(self._block_cost):
                return False
            self._in_kernel_at, self.kernel_arrays = now, self.arrays()
        return True

    def arrays(self) -> Arrays:
        """What the kernel reads of a profile, and renews."""
        own = (self._cost, self._base, self._block_cost, self._block_row, self.open_blocks())
        return *own, self.request.told
