"""The rules between pods as one profile sees them: which domains refuse its pods, and what the others cost.

Semantics are kube-scheduler's (pkg/scheduler/framework/plugins/interpodaffinity and podtopologyspread), within each
cluster:

- required affinity: in the domains of all terms there is a pod that matches all of them, or no such pod is anywhere in
  the cluster and the pod itself matches; a node without the label passes never;
- required anti-affinity: no pod of a term's is in its domain, and no pod is whose own anti-affinity is about this one;
- spread, `DoNotSchedule`: pods in the domain, with this one, less those in the emptiest domain are at most `maxSkew`;
  domains are those of nodes that have all keys and that the policies of the constraint include.

What is preferred is a cost. kube-scheduler spreads it over the nodes that pass; here a node's cost depends on its own
domain alone, in the same order:

- `pod_affinity`: for the sum s of weights of pods that are wanted, less those of pods that are not, it is
  (1 - s / (|s| + W)) / 2, where W is the sum of the pod's own weights;
- `topology_spread`, of `ScheduleAnyway`: the mean of skew / (skew + maxSkew), 1 where a node has no such label.

A constraint has a value for each domain: a cost, infinite where it refuses. When pods come or go, only the rows of
domains whose value changed are renewed; a constraint on zones renews none, since its value is added to whole blocks.
What that takes is in `between`, compiled.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from services.scheduler.decision.config import Weights
from services.scheduler.decision.interface import Filter, Reasons
from services.scheduler.decision.scoring.between import (
    APART,
    DOMAINS,
    IN_BLOCKS,
    IN_ROWS,
    LIKED_IN_BLOCKS,
    LIKING,
    MIN_DOMAINS,
    MISSING,
    SPREAD,
    SPREAD_ANYWAY,
    TOGETHER,
    settle,
)
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray, IntArray, Rows
from services.scheduler.decision.table.neighbours import About, Neighbours, Tally
from services.scheduler.decision.table.rules import Rules, SpreadRule, Term
from services.scheduler.decision.table.topology import NOWHERE, Topology
from services.scheduler.decision.table.views import NodeView

NO_AFFINITY = "node(s) didn't match pod affinity rules"
NO_ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
NO_EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"
NO_SPREAD = "node(s) didn't match pod topology spread constraints"
NO_SPREAD_LABEL = "node(s) didn't match pod topology spread constraints (missing required label)"

_NO_ROWS: Rows = np.zeros(0, np.intp)
_NO_CHANGES: IntArray = np.zeros((0, 3), np.int64)
# Domains more than there are for which there is room, beside a quarter.
_FEW = 16
# What weighs as much as a pod wants, where it is only wanted or unwanted by others.
_LARGEST_WEIGHT = 100


class Eligible(Protocol):
    """Which rows count, of those that are asked."""

    def __call__(self, rows: Rows, /) -> BoolArray: ...


class Inclusion(Protocol):
    """Which rows a spread constraint's policies include."""

    def by_affinity(self, rows: Rows) -> BoolArray: ...

    def by_taints(self, rows: Rows) -> BoolArray: ...


class Constraint:
    """Its `value` by domain, infinite where pods are refused; `numbers` are its weight, and the value for nodes without
    the label.

    Counted are pods of the tally, on rows that are eligible: by domain (`sums`), beside how many such rows it has
    (`nodes`); `where` is the domain in which each row counts. The arrays are parts of those of `Constraints`.
    """

    def __init__(
        self,
        kind: int,
        tally: Tally,
        topology: Topology,
        eligible: Eligible | None = None,
        *,
        text: str = "",
        missing: float = 0.0,
        weight: float = 0.0,
        rule: SpreadRule | None = None,
    ) -> None:
        self.kind = kind
        self.tally = tally
        self.topology = topology
        self.text, self.missing_text = text, ""
        self.numbers = (weight, missing)
        self.limits = (rule.max_skew, int(rule.itself), rule.min_domains) if rule is not None else (0, 0, 0)
        self.value: FloatArray = np.zeros(0, np.float64)
        self.sums: IntArray = np.zeros(0, np.int64)
        self.nodes: IntArray = np.zeros(0, np.int64)
        self.where: Rows = np.zeros(0, np.intp)
        self._eligible = eligible

    def at(self, rows: Rows) -> FloatArray:
        domains = self.topology.of_row[rows]
        return np.where(domains == NOWHERE, self.numbers[1], self.value[domains])

    def count(self) -> None:
        """All rows and pods anew."""
        self.where[:] = self._domains(np.arange(len(self.where)))
        counted = self.where[self.where != NOWHERE]
        self.nodes[:] = np.bincount(counted, minlength=len(self.nodes))
        self.sums[:] = 0
        by_row = self.tally.by_row
        domains = self.where[np.fromiter(by_row, np.intp, len(by_row))]
        counts = domains != NOWHERE
        np.add.at(self.sums, domains[counts], np.fromiter(by_row.values(), np.int64, len(by_row))[counts])

    def follow(self, rows: Rows) -> bool:
        """These rows may count in other domains now, with the pods that are there; whether any does."""
        domains = self._domains(rows)
        differing = np.flatnonzero(domains != self.where[rows])
        for index in differing.tolist():
            row, domain = int(rows[index]), int(domains[index])
            before, pods = int(self.where[row]), self.tally.by_row.get(row, 0)
            if before == domain:
                continue
            for where, sign in ((before, -1), (domain, 1)):
                if where != NOWHERE:
                    self.sums[where] += sign * pods
                    self.nodes[where] += sign
            self.where[row] = domain
        return bool(len(differing))

    def _domains(self, rows: Rows) -> Rows:
        domains = self.topology.of_row[rows]
        return np.where(self._eligible(rows), domains, NOWHERE) if self._eligible is not None else domains


class Constraints:
    """All of a profile's. `part` is what they add to the cost of each row, `blocks` to that of all rows of a block.

    The parts of all rows of blocks that are `stirred` are others than those that were added before.
    """

    def __init__(
        self,
        neighbours: Neighbours,
        rules: Rules | None,
        about: About,
        weights: Weights,
        included: Inclusion,
    ) -> None:
        self._neighbours = neighbours
        self._included = included
        self._rules = rules
        self._spread: list[Constraint] = []
        self._affinity: list[Constraint] = []
        self._soft: list[Constraint] = []
        if rules is not None:
            self._add_spread(rules, weights.topology_spread)
            self._add_affinity(rules)
        for term in about.terms:
            if not term.weight:
                self._affinity.append(self._apart(*self._owners(term, about.namespace), NO_EXISTING))
        likings = self._liked(rules, about) if weights.pod_affinity else []
        plain = [*self._spread, *self._affinity, *self._soft]
        self._all = [*plain, *likings]
        self._topologies = list(dict.fromkeys(item.topology for item in self._all))
        self._tallies = list(dict.fromkeys(item.tally for item in self._all))
        own = rules.preferred if rules is not None else ()
        self._likes = (weights.pod_affinity, float(sum(abs(item.weight) for item in own) or _LARGEST_WEIGHT))
        mixed = LIKED_IN_BLOCKS if any(not item.topology.by_block for item in likings) else IN_BLOCKS
        extents = [IN_BLOCKS] * len(plain) + [mixed] * len(likings)
        self._extents = [
            extent if item.topology.by_block else IN_ROWS for item, extent in zip(self._all, extents, strict=True)
        ]
        self.by_block = IN_BLOCKS in self._extents
        # How far each tally was followed, and its epoch; and where the topologies were then.
        self._seen: list[tuple[int, int]] = []
        self._moves = -1
        self._make_room()

    @property
    def filters(self) -> list[Filter]:
        """Those that refuse, to explain."""
        named = (("topology_spread", self._spread), ("pod_affinity", self._affinity))
        return [ConstraintFilter(name, items) for name, items in named if items]

    # --- keeping up ---

    def rebuild(self) -> None:
        for topology in self._topologies:
            topology.refresh()
        self._make_room()
        for item in self._all:
            item.count()
        self._seen = [(tally.end, tally.epoch) for tally in self._tallies]
        self._settle(_NO_CHANGES, np.arange(len(self.part)), _NO_ROWS, anew=True)

    def update(self, usage: Rows, facts: Rows = _NO_ROWS) -> Rows | None:
        """The rows whose cost is to be computed anew, the given ones first; None: start anew. On rows of `usage` there
        is more or less room than before, of those in `facts` anything may be different.
        """
        changes = self._changes()
        if changes is None:
            return None
        if not len(facts):
            found = np.array(changes, np.int64) if changes else _NO_CHANGES
            return self._settle(found, facts, usage, anew=False)
        for topology in self._topologies:
            topology.refresh()
        if not self._fit_rows():
            return None
        for number, row, pods in changes:
            for item in self._all:
                if item.tally is self._tallies[number] and item.where[row] != NOWHERE:
                    item.sums[item.where[row]] += pods
        moved = [item.follow(facts) for item in self._all]
        anew = any(moved) or bool(changes) or self._moves != self._neighbours.topologies.moves
        return self._settle(_NO_CHANGES, facts, usage, anew=anew)

    def _changes(self) -> list[tuple[int, int, int]] | None:
        """Pods that came to rows or went since the last time, by the number of their tally; None: too many."""
        found: list[tuple[int, int, int]] = []
        for number, tally in enumerate(self._tallies):
            seen, epoch = self._seen[number]
            if epoch != tally.epoch:
                return None
            if seen != tally.end:
                changes = tally.since(seen)
                if changes is None:
                    return None
                found += [(number, row, pods) for row, pods in changes]
                self._seen[number] = tally.end, epoch
        return found

    def _settle(self, changes: IntArray, facts: Rows, usage: Rows, *, anew: bool) -> Rows:
        arrays = self._neighbours.topologies
        self._moves = arrays.moves
        return settle(
            changes,
            facts,
            usage,
            anew,
            self._specs,
            self._numbers,
            arrays.of_row,
            arrays.of_block,
            arrays.cluster,
            arrays.first,
            arrays.after,
            *self._counts,
            *self._levels,
            *self._group,
            *self._likes,
            self.blocks,
            self.part,
            *self._mixed,
            self.stirred,
        )

    def _make_room(self) -> None:
        """Arrays for all constraints, as large as the table and the topologies ask for."""
        table, count = self._neighbours.table, len(self._all)
        offsets, end = [], 0
        sizes = [item.topology.domains + item.topology.domains // 4 + _FEW for item in self._all]
        for size in sizes:
            offsets.append(end)
            end += size
        self._sizes = sizes
        numbers = {tally: number for number, tally in enumerate(self._tallies)}
        self._numbers: FloatArray = np.array([item.numbers for item in self._all], np.float64).reshape(
            count, MISSING + 1
        )
        self._specs: IntArray = np.array(
            [
                (
                    item.kind,
                    item.topology.number,
                    numbers[item.tally],
                    offset,
                    item.topology.domains,
                    extent,
                    *item.limits,
                )
                for item, offset, extent in zip(self._all, offsets, self._extents, strict=True)
            ],
            np.int64,
        ).reshape(count, MIN_DOMAINS + 1)
        where: Rows = np.full((count, table.rows), NOWHERE, np.intp)
        nodes, sums = np.zeros(end, np.int64), np.zeros(end, np.int64)
        value: FloatArray = np.zeros(end, np.float64)
        self._counts = where, nodes, sums, value
        for index, (item, offset, size) in enumerate(zip(self._all, offsets, sizes, strict=True)):
            room = slice(offset, offset + size)
            item.where, item.nodes, item.sums, item.value = where[index], nodes[room], sums[room], value[room]
        clusters = table.clusters_with_domains
        low, at_low, eligible, least = (np.zeros((count, clusters), np.int64) for _ in range(4))
        self._levels = low, at_low, eligible, least
        own = np.array([self._may_be_first(cluster) for cluster in range(clusters)], np.bool_)
        self._group = np.zeros(clusters, np.int64), own, np.zeros(clusters, np.bool_)
        self.part: FloatArray = np.zeros(table.rows, np.float64)
        self.blocks: FloatArray = np.zeros(table.blocks, np.float64)
        mixed = LIKED_IN_BLOCKS in self._extents
        rows, blocks = (table.rows, table.blocks) if mixed else (0, 0)
        self._mixed = np.zeros(rows, np.float64), np.zeros(rows, np.float64), np.zeros(blocks, np.float64)
        self.stirred: BoolArray = np.zeros(blocks, np.bool_)

    def _fit_rows(self) -> bool:
        """Whether the arrays are large enough after the table or the topologies grew."""
        table = self._neighbours.table
        domains = [item.topology.domains for item in self._all]
        enough = all(size >= count for size, count in zip(self._sizes, domains, strict=True))
        if not enough or len(self.part) != table.rows or len(self._group[0]) != table.clusters_with_domains:
            return False
        self._specs[:, DOMAINS] = domains
        return True

    def _may_be_first(self, cluster: int) -> bool:
        """Whether such a pod may be the first of those that it wants to be with, in a cluster."""
        rules, matches = self._rules, self._neighbours.namespace_matches
        if rules is None or not rules.affinity:
            return False
        return rules.itself and all(matches(term.query, cluster, rules.namespace) for term in rules.affinity)

    # --- making them ---

    def _add_spread(self, rules: Rules, weight: float) -> None:
        soft = sum(not rule.hard for rule in rules.spread)
        for rule in rules.spread:
            keys = [other.key for other in rules.spread if other.hard == rule.hard]
            tally, topology = self._neighbours.matching((rule.query,)), self._topology(rule.key)
            eligible = self._eligible(rule, keys)
            item = Constraint(SPREAD if rule.hard else SPREAD_ANYWAY, tally, topology, eligible, rule=rule)
            item.text, item.missing_text = NO_SPREAD, NO_SPREAD_LABEL
            if rule.hard:
                tally.opens = True
                item.numbers = (0.0, np.inf)
                self._spread.append(item)
            elif weight:
                item.numbers = (weight / soft, weight / soft)
                self._soft.append(item)

    def _eligible(self, rule: SpreadRule, keys: list[str]) -> Eligible:
        """Nodes count that have all keys and that the constraint's policies include."""
        topologies = [self._topology(key) for key in keys]
        included = self._included

        def eligible(rows: Rows) -> BoolArray:
            counted = np.ones(len(rows), np.bool_)
            for topology in topologies:
                counted &= topology.of_row[rows] != NOWHERE
            if rule.honors_affinity:
                counted &= included.by_affinity(rows)
            if rule.honors_taints:
                counted &= included.by_taints(rows)
            return counted

        return eligible

    def _add_affinity(self, rules: Rules) -> None:
        if rules.affinity:
            tally = self._neighbours.matching(tuple(term.query for term in rules.affinity))
            tally.opens = True
            for key in dict.fromkeys(term.key for term in rules.affinity):
                self._affinity.append(
                    Constraint(TOGETHER, tally, self._topology(key), text=NO_AFFINITY, missing=np.inf)
                )
        for term in rules.anti_affinity:
            tally = self._neighbours.matching((term.query,))
            self._affinity.append(self._apart(tally, self._topology(term.key), None, NO_ANTI_AFFINITY))

    def _apart(self, tally: Tally, topology: Topology, eligible: Eligible | None, text: str) -> Constraint:
        return Constraint(APART, tally, topology, eligible, text=text)

    def _liked(self, rules: Rules | None, about: About) -> list[Constraint]:
        matching = self._neighbours.matching
        own = rules.preferred if rules is not None else ()
        liked = [
            Constraint(LIKING, matching((item.query,)), self._topology(item.key), weight=item.weight) for item in own
        ]
        liked += [
            Constraint(LIKING, *self._owners(item, about.namespace), weight=item.weight)
            for item in about.terms
            if item.weight
        ]
        return liked

    def _owners(self, term: Term, namespace: str) -> tuple[Tally, Topology, Eligible | None]:
        """Running pods with a term, in the clusters where it is about this pod's namespace."""
        query, table = term.query, self._neighbours.table
        tally, topology = self._neighbours.owners(term), self._topology(term.key)
        if query.namespace_labels is None:
            return tally, topology, None

        def eligible(rows: Rows) -> BoolArray:
            clusters = table.block_cluster[rows // BLOCK]
            matches = {
                number: self._neighbours.namespace_matches(query, number, namespace)
                for number in np.unique(clusters).tolist()
            }
            return np.fromiter((matches[number] for number in clusters.tolist()), np.bool_, len(rows))

        return tally, topology, eligible

    def _topology(self, key: str) -> Topology:
        return self._neighbours.topologies.get(key)


class ConstraintFilter:
    """Why nodes are refused, in kube-scheduler's words: a node counts for the first of them that refuses it."""

    dynamic = True

    def __init__(self, name: str, constraints: list[Constraint]) -> None:
        self.name = name
        self._constraints = constraints

    def mask(self, view: NodeView) -> BoolArray:
        passes = np.ones(len(view.rows), np.bool_)
        for item in self._constraints:
            passes &= np.isfinite(item.at(view.rows))
        return passes

    def reasons(self, view: NodeView) -> Reasons:
        left = np.ones(len(view.rows), np.bool_)
        for item in self._constraints:
            refused = left & ~np.isfinite(item.at(view.rows))
            if item.missing_text:
                without = item.topology.of_row[view.rows] == NOWHERE
                yield item.missing_text, refused & without
                yield item.text, refused & ~without
            else:
                yield item.text, refused
            left &= ~refused
