"""Which pods are where, as far as other pods' affinity, anti-affinity or spread ask for it.

Counted are pods that were seen on a node, and replicas that we bind and that are expected there; not what a cluster's
own scheduler has yet to bind. For every question that somebody asks (`Tally`) pods are counted by row, and a count
changes when a pod comes or goes: the cost is that of the pod, not of the fleet.

Nothing is counted before anybody asks, and before any pod has terms: then all that is there is counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary, ref

from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.rules import Term
from services.scheduler.decision.table.topology import Topologies
from shared.model.affinity import PodQuery, fulfils

# Changes that a tally remembers; a reader that is further behind starts anew.
_KEPT = 2048
_FEW = 64
# Kinds of pods that differ in what somebody asks for, of which something is kept.
_MOST_KNOWN = 4096

_NAMESPACE_NAME = "kubernetes.io/metadata.name"

# What pods are asked for: those that all of these select.
Queries = tuple[PodQuery, ...]


class PodFacts:
    """What other pods' selectors may know of a pod, and what it wants of them; shared by pods that are alike."""

    __slots__ = ("__weakref__", "_labels", "_make", "_of", "alike", "ending", "namespace", "owned", "tallies", "terms")

    def __init__(
        self,
        namespace: str,
        make: Callable[[Any], Mapping[str, str]],
        of: object = (),
        terms: tuple[Term, ...] = (),
        *,
        ending: bool = False,
    ) -> None:
        """`make` gives the labels of what is in `of`, should anybody ask."""
        self.namespace = namespace
        self.terms = terms
        self.ending = ending
        # Kept by `Neighbours` while such a pod is anywhere.
        self.tallies: tuple[ref[Tally], ...] = ()
        self.owned: tuple[Tally, ...] = ()
        # Kept by `Neighbours` as well.
        self.alike: _Alike | None = None
        self._make, self._of = make, of
        self._labels: Mapping[str, str] | None = None

    @property
    def labels(self) -> Mapping[str, str]:
        if self._labels is None:
            self._labels = self._make(self._of)
        return self._labels


class Tally:
    """Pods by row, and the changes in their order. `number` is its place among all; `opens`: more pods may give room.

    `epoch` rises when everything was counted anew.
    """

    __slots__ = ("__weakref__", "_base", "_changes", "by_row", "epoch", "number", "opens", "queries")

    def __init__(self, number: int, queries: Queries) -> None:
        self.number = number
        self.queries = queries
        self.by_row: dict[int, int] = {}
        self.opens = False
        self.epoch = 0
        self._changes: list[tuple[int, int]] = []
        self._base = 0

    @property
    def end(self) -> int:
        return self._base + len(self._changes)

    def add(self, row: int, count: int) -> None:
        left = self.by_row.get(row, 0) + count
        if left:
            self.by_row[row] = left
        else:
            del self.by_row[row]
        self._changes.append((row, count))
        if len(self._changes) > 2 * _KEPT:
            del self._changes[:_KEPT]
            self._base += _KEPT

    def since(self, position: int) -> list[tuple[int, int]] | None:
        return self._changes[position - self._base :] if position >= self._base else None

    def replace(self, by_row: dict[int, int]) -> None:
        """Everything was counted anew."""
        self.by_row = by_row
        self._changes.clear()
        self._base = 0
        self.epoch += 1


class About(NamedTuple):
    """Terms of running pods that are about some pod, which is in this namespace where that matters."""

    terms: tuple[Term, ...] = ()
    namespace: str = ""


class _Alike:
    """What is known of pods that are alike to all who ask: who counts them, who of those that run wants something of
    them, and which of their own terms are about themselves. `about` is what `Neighbours.about` said for `numbers`.
    """

    __slots__ = ("about", "numbers", "own", "tallies", "version", "wanting")

    def __init__(self, version: int) -> None:
        self.version = version
        self.tallies: tuple[ref[Tally], ...] = ()
        self.wanting: tuple[_Owned, ...] = ()
        self.own: tuple[bool, ...] = ()
        self.numbers: tuple[int, ...] = ()
        self.about = About()


class Neighbours:
    """See the module. `wanted`: there are pods with terms, or somebody asked; `active`: pods are counted."""

    def __init__(self, table: NodeTable) -> None:
        self.wanted = False
        self.active = False
        self.table = table
        self._rows: dict[PodFacts, dict[int, int]] = {}
        self._tallies: WeakValueDictionary[Queries, Tally] = WeakValueDictionary()
        self._by_label: _ByLabel[ref[Tally]] = _ByLabel()
        self._owners: WeakValueDictionary[Term, Tally] = WeakValueDictionary()
        self._terms_by_label: _ByLabel[_Owned] = _ByLabel()
        self.topologies = Topologies(table)
        self._namespaces: dict[tuple[int, str], Mapping[str, str]] = {}
        self._made = 0
        # Label keys for which anybody asks, and some that nobody asks for any more.
        self._asked: dict[str, None] = {}
        self._most_asked = _FEW
        # Rises when somebody asks for more.
        self._version = 0
        self._known: dict[tuple[object, ...], _Alike] = {}

    # --- what happens ---

    def add(self, row: int, facts: PodFacts, count: int) -> None:
        """One pod more (1) or less (-1) on a row."""
        if not self.active:
            self.wanted = self.wanted or bool(facts.terms)
            return
        rows = self._rows.get(facts)
        if rows is None:
            rows = self._rows[facts] = {}
            self._register(facts)
        left = rows.get(row, 0) + count
        if left:
            rows[row] = left
        else:
            del rows[row]
        for found in facts.tallies:
            tally = found()
            if tally is not None and self._counts(tally.queries, row, facts.namespace):
                tally.add(row, count)
                self.table.freed += tally.opens
        for tally in facts.owned:
            tally.add(row, count)
        if not rows:
            del self._rows[facts]
            facts.tallies, facts.owned = (), ()

    def activate(self, present: Iterable[tuple[int, PodFacts]]) -> None:
        """Counts from now on, and what is there already: the rows of all pods."""
        if not self.active:
            self.wanted = self.active = True
            for row, facts in present:
                self.add(row, facts, 1)
            self._tell()

    def label_namespace(self, cluster: int, namespace: str, labels: Mapping[str, str] | None) -> None:
        """The labels of a namespace, None where it is no more."""
        key = (cluster, namespace)
        if self._namespaces.get(key) == labels:
            return
        if labels is None:
            del self._namespaces[key]
        else:
            self._namespaces[key] = labels
        if not self.active:
            return
        for tally in list(self._tallies.values()):
            if any(query.namespace_labels is not None for query in tally.queries):
                tally.replace(self._counted(tally))
        for tally in list(self._owners.values()):
            if tally.queries[0].namespace_labels is not None:
                # Who has the term is as before; whom it is about is not.
                tally.replace(tally.by_row)
        self._tell()

    # --- what is asked ---

    def matching(self, queries: Queries) -> Tally:
        """The pods that all queries select. Known as long as somebody holds it."""
        tally = self._tallies.get(queries)
        if tally is None:
            tally = self._tallies[queries] = Tally(self._number(), queries)
            for facts in self._rows:
                if _may_select(queries, facts):
                    facts.tallies = (*(found for found in facts.tallies if found() is not None), ref(tally))
            self._by_label.put(queries[0], ref(tally))
            self._ask_for(queries)
            tally.replace(self._counted(tally))
        return tally

    def owners(self, term: Term) -> Tally:
        """The running pods that have a term."""
        tally = self._owners.get(term)
        if tally is None:
            tally = self._owners[term] = Tally(self._number(), (term.query,))
            self._terms_by_label.put(term.query, _Owned(term, ref(tally)))
            self._ask_for(tally.queries)
        return tally

    def about(self, facts: PodFacts) -> About:
        """The terms of running pods that may be about this one, and its own that are: its like may run soon."""
        alike = self._alike(facts)
        found = {
            tally.number: item.term for item in alike.wanting if (tally := item.tally()) is not None and tally.by_row
        }
        for term, about_itself in zip(facts.terms, alike.own, strict=True):
            if about_itself:
                found[self.owners(term).number] = term
        numbers = tuple(sorted(found))
        if alike.numbers != numbers:
            terms = tuple(found[number] for number in numbers)
            by_namespace = any(term.query.namespace_labels is not None for term in terms)
            alike.numbers, alike.about = numbers, About(terms, facts.namespace if by_namespace else "")
        return alike.about

    def namespace_matches(self, query: PodQuery, cluster: int, namespace: str) -> bool:
        if namespace in query.namespaces:
            return True
        wanted = query.namespace_labels
        return wanted is not None and fulfils(self._labels_of(cluster, namespace), wanted)

    # --- inside ---

    def _register(self, facts: PodFacts) -> None:
        facts.tallies = self._alike(facts).tallies
        facts.owned = tuple(self.owners(term) for term in facts.terms)

    def _ask_for(self, queries: Queries) -> None:
        """Somebody asks for pods that nobody asked for before: what was known of any may be different now."""
        self._version += 1
        self._known.clear()
        for query in queries:
            for key, _, _ in query.labels or ():
                self._asked[key] = None
        if len(self._asked) > self._most_asked:
            living = [tally.queries for tally in (*self._tallies.values(), *self._owners.values())]
            self._asked = {
                key: None for asked in (*living, queries) for query in asked for key, *_ in query.labels or ()
            }
            self._most_asked = 2 * len(self._asked) + _FEW

    def _alike(self, facts: PodFacts) -> _Alike:
        """What is known of pods that are alike as far as anybody asks. New workloads have labels of their own, most of
        which nobody ever asks for.
        """
        alike = facts.alike
        if alike is not None and alike.version == self._version:
            return alike
        labels = facts.labels
        key = (facts.namespace, facts.ending, facts.terms, *map(labels.get, self._asked))
        alike = self._known.get(key)
        if alike is None:
            alike = _Alike(self._version)
            alike.tallies = tuple(
                found
                for found in self._by_label.of(labels)
                if (tally := found()) is not None and _may_select(tally.queries, facts)
            )
            wanting = self._terms_by_label.of(labels)
            alike.wanting = tuple(item for item in wanting if _may_select((item.term.query,), facts))
            alike.own = tuple(_may_select((term.query,), facts) for term in facts.terms)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = alike
        facts.alike = alike
        return alike

    def _labels_of(self, cluster: int, namespace: str) -> Mapping[str, str]:
        return {_NAMESPACE_NAME: namespace, **self._namespaces.get((cluster, namespace), {})}

    def _counts(self, queries: Queries, row: int, namespace: str) -> bool:
        """Whether a pod counts there whose labels are selected."""
        cluster = -1
        for query in queries:
            if query.namespace_labels is not None:
                cluster = self.table.cluster_of(row) if cluster < 0 else cluster
                if not self.namespace_matches(query, cluster, namespace):
                    return False
        return True

    def _counted(self, tally: Tally) -> dict[int, int]:
        by_row: dict[int, int] = {}
        for facts, rows in self._rows.items():
            if _may_select(tally.queries, facts):
                for row, count in rows.items():
                    if self._counts(tally.queries, row, facts.namespace):
                        by_row[row] = by_row.get(row, 0) + count
        return by_row

    def _tell(self) -> None:
        """Whoever keeps something derived from rows is to look again."""
        if self.table.rows:
            self.table.usage_log.add(0, self.table.rows)
            self.table.freed += 1

    def _number(self) -> int:
        self._made += 1
        return self._made


class _Owned:
    __slots__ = ("tally", "term")

    def __init__(self, term: Term, tally: ref[Tally]) -> None:
        self.term = term
        self.tally = tally

    def __call__(self) -> Tally | None:
        return self.tally()


E = TypeVar("E", bound=Callable[[], Tally | None])


class _ByLabel(Generic[E]):
    """Entries by a label that the pods which their query selects must have, so that few are looked at for a pod.

    Those that nobody holds any more are dropped when there are about as many of them as of others.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str] | None, list[E]] = {}
        self._most = _FEW
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, query: PodQuery, entry: E) -> None:
        if query.labels is None:
            return
        single = ((key, values[0]) for key, operator, values in query.labels if operator == "In" and len(values) == 1)
        self._entries.setdefault(next(single, None), []).append(entry)
        self._count += 1
        if self._count > self._most:
            living = {
                label: [item for item in entries if item() is not None] for label, entries in self._entries.items()
            }
            self._entries = {label: entries for label, entries in living.items() if entries}
            self._count = sum(map(len, self._entries.values()))
            self._most = 2 * self._count + _FEW

    def of(self, labels: Mapping[str, str]) -> Iterator[E]:
        yield from self._entries.get(None, ())
        for label in labels.items():
            yield from self._entries.get(label, ())


def _may_select(queries: Queries, facts: PodFacts) -> bool:
    """Apart from the labels of its namespace, which differ by cluster."""
    return all(
        (facts.namespace in query.namespaces or query.namespace_labels is not None)
        and query.selects(facts.labels, ending=facts.ending)
        for query in queries
    )
