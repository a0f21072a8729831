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
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from services.scheduler.decision.config import Weights
from services.scheduler.decision.interface import Filter, Reasons
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray, IntArray, Rows, grown
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
# What weighs as much as a pod wants, where it is only wanted or unwanted by others.
_LARGEST_WEIGHT = 100


class Eligible(Protocol):
    """Which rows count, of those that are asked."""

    def __call__(self, rows: Rows, /) -> BoolArray: ...


class Inclusion(Protocol):
    """Which rows a spread constraint's policies include."""

    def by_affinity(self, rows: Rows) -> BoolArray: ...

    def by_taints(self, rows: Rows) -> BoolArray: ...


class DomainCounts:
    """Pods of one tally by domain, over the rows that are eligible; and how many of these a domain has."""

    def __init__(self, tally: Tally, topology: Topology, eligible: Eligible | None = None) -> None:
        self.tally = tally
        self.topology = topology
        self.sums: IntArray = np.zeros(0, np.int64)
        self.nodes: IntArray = np.zeros(0, np.int64)
        self._eligible = eligible
        # The domain in which each row is counted.
        self._where: Rows = np.zeros(0, np.intp)
        self._seen = 0
        self._epoch = -1

    def rebuild(self) -> None:
        topology, tally = self.topology, self.tally
        self._where = self._domains(np.arange(len(topology.of_row)))
        counted = self._where[self._where != NOWHERE]
        self.nodes = np.bincount(counted, minlength=topology.domains).astype(np.int64)
        self.sums = np.zeros(topology.domains, np.int64)
        for row, count in tally.by_row.items():
            if self._where[row] != NOWHERE:
                self.sums[self._where[row]] += count
        self._seen, self._epoch = tally.end, tally.epoch

    def update(self, facts: Rows) -> set[int] | None:
        """The domains that changed, `facts` being the rows of which anything but pods did; None: start anew."""
        tally = self.tally
        changes = tally.since(self._seen) if self._epoch == tally.epoch else None
        if changes is None or len(self._where) != len(self.topology.of_row):
            return None
        self._seen = tally.end
        changed: set[int] = set()
        for row, count in changes:
            domain = int(self._where[row])
            if domain != NOWHERE:
                self.sums[domain] += count
                changed.add(domain)
        if len(facts):
            self._fit()
            for row, domain in zip(facts.tolist(), self._domains(facts).tolist(), strict=True):
                self._move(row, domain, changed)
        return changed

    def _move(self, row: int, domain: int, changed: set[int]) -> None:
        before = int(self._where[row])
        if before == domain:
            return
        pods = self.tally.by_row.get(row, 0)
        for where, sign in ((before, -1), (domain, 1)):
            if where != NOWHERE:
                self.sums[where] += sign * pods
                self.nodes[where] += sign
                changed.add(where)
        self._where[row] = domain

    def _fit(self) -> None:
        if len(self.sums) != self.topology.domains:
            self.sums = grown(self.sums, (self.topology.domains,))
            self.nodes = grown(self.nodes, (self.topology.domains,))

    def _domains(self, rows: Rows) -> Rows:
        domains = self.topology.of_row[rows]
        return np.where(self._eligible(rows), domains, NOWHERE) if self._eligible is not None else domains.copy()


class Constraint:
    """`value` by domain, and `missing` for nodes without the label; infinite where pods are refused."""

    text = ""
    missing_text = ""
    missing = 0.0

    def __init__(self, counts: DomainCounts) -> None:
        self.counts = counts
        self.topology = counts.topology
        self.value: FloatArray = np.zeros(0, np.float64)
        self._changed: set[int] = set()

    def at(self, rows: Rows) -> FloatArray:
        return self.of(self.topology.of_row[rows])

    def of(self, domains: Rows) -> FloatArray:
        if not len(self.value):
            return np.full(len(domains), self.missing)
        return np.where(domains == NOWHERE, self.missing, self.value[domains])

    def rebuild(self) -> None:
        """Of the counts, which are up to date."""
        self.value = self._values(np.arange(self.topology.domains))

    def absorb(self, facts: Rows) -> bool:
        """Counts what changed; false: start anew."""
        changed = self.counts.update(facts)
        self._changed = changed or set()
        return changed is not None

    def settle(self) -> Rows:
        """The domains whose value changed by what was absorbed."""
        if len(self.value) != self.topology.domains:
            # Even if nothing counts in the new ones, nodes are there.
            self.value = grown(self.value, (self.topology.domains,))
        if not self._changed:
            return _NO_ROWS
        asked = self._affected(self._changed)
        values = self._values(asked)
        differ = values != self.value[asked]
        self.value[asked] = values
        changed: Rows = asked[differ]
        return changed

    def _affected(self, changed: set[int]) -> Rows:
        """The domains whose value may be another now."""
        return np.fromiter(changed, np.intp, len(changed))

    def _values(self, domains: Rows) -> FloatArray:
        raise NotImplementedError


class Apart(Constraint):
    """Refuses domains where there is anyone."""

    def __init__(self, counts: DomainCounts, text: str) -> None:
        super().__init__(counts)
        self.text = text

    def _values(self, domains: Rows) -> FloatArray:
        return np.where(self.counts.sums[domains] > 0, np.inf, 0.0)


class Together(Constraint):
    """One term of required affinity."""

    text = NO_AFFINITY
    missing = np.inf

    def __init__(self, counts: DomainCounts, group: Group) -> None:
        super().__init__(counts)
        self._group = group
        group.terms.append(self)

    def _values(self, domains: Rows) -> FloatArray:
        first = self._group.first[self.topology.cluster[domains]]
        return np.where((self.counts.sums[domains] > 0) | first, 0.0, np.inf)


class Group:
    """The terms of one pod's required affinity, which look for the same pods: those that match all of them.

    `first`: whether a pod may be the first of its kind, by cluster index.
    """

    def __init__(self, neighbours: Neighbours, rules: Rules) -> None:
        self.terms: list[Together] = []
        self.first: BoolArray = np.zeros(0, np.bool_)
        self._neighbours = neighbours
        self._rules = rules

    def refresh(self) -> None:
        clusters = max((int(term.topology.cluster.max(initial=-1)) + 1 for term in self.terms), default=0)
        there = np.zeros(clusters, np.bool_)
        for term in self.terms:
            there[term.topology.cluster[: len(term.counts.sums)][term.counts.sums > 0]] = True
        matches = self._neighbours.namespace_matches
        rules = self._rules
        own = [
            rules.itself and all(matches(term.query, cluster, rules.namespace) for term in rules.affinity)
            for cluster in range(clusters)
        ]
        self.first = ~there & np.array(own, np.bool_)


class Emptiest:
    """Pods in the emptiest domain of each cluster, kept by difference: how many domains have how many pods."""

    def __init__(self, counts: DomainCounts, min_domains: int) -> None:
        self.least: IntArray = np.zeros(0, np.int64)
        self._counts = counts
        self._min_domains = min_domains
        # Of each domain its cluster, and the pods with which it was counted.
        self._known: dict[int, tuple[int, int]] = {}
        self._by_cluster: dict[int, Counter[int]] = {}

    def rebuild(self) -> None:
        self._known.clear()
        self._by_cluster.clear()
        self.least = np.zeros(0, np.int64)
        self.update(range(self._counts.topology.domains))

    def update(self, changed: Iterable[int]) -> bool:
        """Whether it is another one somewhere."""
        counts, clusters = self._counts, self._counts.topology.cluster
        touched: set[int] = set()
        for domain in changed:
            known = self._known.pop(domain, None)
            if known is not None:
                self._add(*known, -1)
                touched.add(known[0])
            if counts.nodes[domain] > 0:
                known = self._known[domain] = (int(clusters[domain]), int(counts.sums[domain]))
                self._add(*known, 1)
                touched.add(known[0])
        size = int(clusters.max(initial=-1)) + 1 if len(self.least) <= max(touched, default=-1) else 0
        if size > len(self.least):
            self.least = grown(self.least, (size,))
        before = self.least.copy()
        for cluster in touched:
            found = self._by_cluster[cluster]
            enough = sum(found.values()) >= self._min_domains
            self.least[cluster] = min(found) if enough and found else 0
        return not np.array_equal(before, self.least)

    def _add(self, cluster: int, pods: int, sign: int) -> None:
        found = self._by_cluster.setdefault(cluster, Counter())
        found[pods] += sign
        if not found[pods]:
            del found[pods]


class Spread(Constraint):
    """`weight` is None where the constraint refuses."""

    def __init__(self, counts: DomainCounts, rule: SpreadRule, weight: float | None) -> None:
        super().__init__(counts)
        self._rule = rule
        self._weight = weight
        self._emptiest = Emptiest(counts, rule.min_domains)
        self.missing = np.inf if weight is None else weight
        self.text, self.missing_text = NO_SPREAD, NO_SPREAD_LABEL

    def rebuild(self) -> None:
        self._emptiest.rebuild()
        super().rebuild()

    def _affected(self, changed: set[int]) -> Rows:
        if self._emptiest.update(changed):
            return np.arange(self.topology.domains)
        return np.fromiter(changed, np.intp, len(changed))

    def _values(self, domains: Rows) -> FloatArray:
        clusters, least = self.topology.cluster[domains], self._emptiest.least
        if len(least) <= clusters.max(initial=-1):
            # Domains of clusters none of whose nodes counts.
            least = grown(least, (int(clusters.max()) + 1,))
        above = self.counts.sums[domains] - least[clusters]
        if self._weight is None:
            return np.where(above + self._rule.itself > self._rule.max_skew, np.inf, 0.0)
        skew = np.maximum(above, 0)
        return np.asarray(self._weight * (skew / (skew + self._rule.max_skew)))


class Liking(Constraint):
    """What the pods of a domain weigh that are wanted there, or want this one; not yet a cost."""

    def __init__(self, counts: DomainCounts, weight: int) -> None:
        super().__init__(counts)
        self._weight = weight

    def _values(self, domains: Rows) -> FloatArray:
        return np.asarray(self.counts.sums[domains] * float(self._weight))


class Likings:
    """All that is wanted and unwanted, as one cost."""

    def __init__(self, parts: list[Liking], weight: float, scale: int) -> None:
        self.parts = parts
        self.by_block = all(part.topology.by_block for part in parts)
        self._weight = weight
        self._scale = scale

    def cost(self, domains: list[Rows]) -> FloatArray:
        """`domains` are those of the rows that are asked, for each part."""
        total: FloatArray = np.zeros(len(domains[0]), np.float64)
        for part, where in zip(self.parts, domains, strict=True):
            total = total + part.of(where)
        return np.asarray(self._weight * (0.5 - 0.5 * (total / (np.abs(total) + self._scale))))


class Constraints:
    """All of a profile's."""

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
        self._topologies: dict[str, Topology] = {}
        self._group: Group | None = None
        self._spread: list[Constraint] = []
        self._affinity: list[Constraint] = []
        self._soft: list[Constraint] = []
        if rules is not None:
            self._add_spread(rules, weights.topology_spread)
            self._add_affinity(rules)
        for term in about.terms:
            if not term.weight:
                self._affinity.append(Apart(self._owners(term, about.namespace), NO_EXISTING))
        self._likings = self._liked(rules, about, weights.pod_affinity) if weights.pod_affinity else None
        parts: list[Constraint] = [*self._likings.parts] if self._likings is not None else []
        plain = [*self._spread, *self._affinity, *self._soft]
        self._all = [*plain, *parts]
        self._in_rows = [item for item in plain if not item.topology.by_block]
        self._in_blocks = [item for item in plain if item.topology.by_block]
        # Of what renews no rows when it changes.
        by_block = self._likings is not None and self._likings.by_block
        self._of_blocks = {*self._in_blocks, *(parts if by_block else ())}
        self._blocks: FloatArray | None = None

    @property
    def filters(self) -> list[Filter]:
        """Those that refuse, to explain."""
        named = (("topology_spread", self._spread), ("pod_affinity", self._affinity))
        return [ConstraintFilter(name, items) for name, items in named if items]

    # --- what they say ---

    def row_part(self, rows: Rows) -> FloatArray:
        """What is added to the cost of rows."""
        part = np.zeros(len(rows), np.float64)
        for item in self._in_rows:
            part = part + item.at(rows)
        likings = self._likings
        if likings is not None and not likings.by_block:
            part = part + likings.cost([item.topology.of_row[rows] for item in likings.parts])
        return part

    def block_part(self) -> FloatArray | None:
        """What is added to the cost of all rows of each block; None for nothing."""
        if self._blocks is None:
            for item in self._in_blocks:
                self._add_to_blocks(item.of(item.topology.of_block))
            likings = self._likings
            if likings is not None and likings.by_block:
                self._add_to_blocks(likings.cost([item.topology.of_block for item in likings.parts]))
        return self._blocks

    def _add_to_blocks(self, value: FloatArray) -> None:
        self._blocks = value if self._blocks is None else self._blocks + value

    # --- keeping up ---

    def rebuild(self) -> None:
        for topology in self._topologies.values():
            topology.refresh()
        for item in self._all:
            item.counts.rebuild()
        if self._group is not None:
            self._group.refresh()
        for item in self._all:
            item.rebuild()
        self._blocks = None

    def update(self, facts: Rows = _NO_ROWS) -> Rows | None:
        """The rows whose part changed, `facts` being those of which anything but pods did; None: start anew."""
        if len(facts):
            for topology in self._topologies.values():
                topology.refresh()
            self._blocks = None
        if not all(item.absorb(facts) for item in self._all):
            return None
        if self._group is not None:
            before = self._group.first
            self._group.refresh()
            if not np.array_equal(before, self._group.first):
                return None
        found = [facts]
        for item in self._all:
            changed = item.settle()
            if not len(changed):
                continue
            if item in self._of_blocks:
                self._blocks = None
            else:
                found += [item.topology.rows_of(domain) for domain in changed.tolist()]
        return np.concatenate(found)

    # --- making them ---

    def _add_spread(self, rules: Rules, weight: float) -> None:
        soft = sum(not rule.hard for rule in rules.spread)
        for rule in rules.spread:
            keys = [other.key for other in rules.spread if other.hard == rule.hard]
            counts = self._counts(self._neighbours.matching((rule.query,)), rule.key, self._eligible(rule, keys))
            if rule.hard:
                counts.tally.opens = True
                self._spread.append(Spread(counts, rule, None))
            elif weight:
                self._soft.append(Spread(counts, rule, weight / soft))

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
            self._group = Group(self._neighbours, rules)
            tally = self._neighbours.matching(tuple(term.query for term in rules.affinity))
            tally.opens = True
            for key in dict.fromkeys(term.key for term in rules.affinity):
                self._affinity.append(Together(self._counts(tally, key), self._group))
        for term in rules.anti_affinity:
            tally = self._neighbours.matching((term.query,))
            self._affinity.append(Apart(self._counts(tally, term.key), NO_ANTI_AFFINITY))

    def _liked(self, rules: Rules | None, about: About, weight: float) -> Likings | None:
        own = rules.preferred if rules is not None else ()
        parts = [Liking(self._counts(self._neighbours.matching((item.query,)), item.key), item.weight) for item in own]
        parts += [Liking(self._owners(item, about.namespace), item.weight) for item in about.terms if item.weight]
        scale = sum(abs(item.weight) for item in own) or _LARGEST_WEIGHT
        return Likings(parts, weight, scale) if parts else None

    def _owners(self, term: Term, namespace: str) -> DomainCounts:
        """Running pods with a term, in the clusters where it is about this pod's namespace."""
        query, table = term.query, self._neighbours.table
        if query.namespace_labels is None:
            return self._counts(self._neighbours.owners(term), term.key)

        def eligible(rows: Rows) -> BoolArray:
            clusters = table.block_cluster[rows // BLOCK]
            matches = {
                number: self._neighbours.namespace_matches(query, number, namespace)
                for number in np.unique(clusters).tolist()
            }
            return np.fromiter((matches[number] for number in clusters.tolist()), np.bool_, len(rows))

        return self._counts(self._neighbours.owners(term), term.key, eligible)

    def _counts(self, tally: Tally, key: str, eligible: Eligible | None = None) -> DomainCounts:
        return DomainCounts(tally, self._topology(key), eligible)

    def _topology(self, key: str) -> Topology:
        found = self._topologies.get(key)
        if found is None:
            found = self._topologies[key] = self._neighbours.topology(key)
        return found


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
