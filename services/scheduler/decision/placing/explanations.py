"""Why a replica is where it is, and why another waits: the record that stands in the decision itself.

A choice is explained when it is made, by numbers that are there already: the terms of the chosen row, and of the
runner-up, which is the cheapest of all others. A replica that finds no node is explained by the first filter that
refuses each node, grouped by cluster and node class, with what the closest node of each group lacks. That is computed
once for each demand and state of the fleet, however many workloads wait for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from services.scheduler.decision.clusters import Cluster
from services.scheduler.decision.interface import Filter, PluginError
from services.scheduler.decision.scoring.filters import DEVICES, RESOURCES
from services.scheduler.decision.scoring.prices import in_words
from services.scheduler.decision.scoring.profiles import DIGITS, Comparison, Profile
from services.scheduler.decision.scoring.shortage import Lacking, Shortage, short_of
from services.scheduler.decision.seen.fleet import Fleet
from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray, Rows
from services.scheduler.decision.table.views import NodeView
from shared.events.v1.decisions import Displacement, PodSetReasons, Refusal
from shared.model.built import built

Json = dict[str, Any]

# So many clusters' choices, and groups of refused nodes, stand in one decision.
MOST_CHOICES = 4
MOST_REFUSALS = 16
MOST_DISPLACEMENTS = 16
CLUSTER = "cluster"
AVOIDED = "avoided"
PRICE = "price"
PREEMPTED = "Preempted"
_refusal_for_resources = built(Refusal, ("cluster", "node_class", "nodes", "filter", "reason", "closest", "short"))


class Reasons:
    """Collects what is to be said of one pod set while it is decided. `avoid` are clusters that are left out."""

    def __init__(self, fleet: Fleet, profile: Profile, avoid: Collection[int]) -> None:
        self._fleet = fleet
        self._profile = profile
        self._avoid = avoid
        # What made room for what is placed.
        self.displaced: list[Displacement] = []
        # By cluster; models are made of them with the whole outcome, which is far cheaper than one by one.
        self._choices: dict[int, Json] = {}

    def note(
        self,
        row: int,
        spread: FloatArray | None,
        avoid: Collection[int],
        further: FloatArray | None,
        only: BoolArray | None = None,
    ) -> None:
        """A replica is about to go to `row`, which is the best, of those in `only` if that is given. To be called
        before it takes its room.

        `further` is what the choice added to the costs, by domain: the spread, and what preferences among clusters add.
        """
        cluster = self._fleet.table.cluster_of(row)
        if cluster in self._choices or len(self._choices) >= MOST_CHOICES:
            return
        compared = self._profile.compare(row, further, avoid, only)
        self._choices[cluster] = choice_of(self._fleet, row, compared, spread, further)

    def go_on(self, profile: Profile) -> None:
        """What comes is chosen by another profile of the same demand."""
        self._profile = profile

    def noted(self) -> dict[int, Json]:
        """What was noted so far; see `forget_since`."""
        return dict(self._choices)

    def forget_since(self, noted: dict[int, Json]) -> None:
        """Nothing came of the choices since then."""
        self._choices = noted

    def take_back(self, row: int) -> None:
        """Nothing came of a choice that was noted."""
        self._choices.pop(self._fleet.table.cluster_of(row), None)

    def record(self, previous: PodSetReasons | None, *, waits: bool, left: int | None = None) -> Json | None:
        """What stands in the decision, as `PodSetReasons`. Choices of before hold on where none was made since.

        `left` is of what the workload may cost, where that is why replicas wait.
        """
        reasons: Json = {"choices": [*self._choices.values()]}
        if self.displaced:
            reasons["displaced"] = self.displaced[:MOST_DISPLACEMENTS]
        if not self._choices and previous is not None:
            reasons = {"choices": previous.choices, "displaced": previous.displaced}
        if not waits:
            return reasons if reasons["choices"] else None
        refusals, left_out = refusals_of(self._fleet, self._profile, self._avoid)
        if left is not None:
            dear = refused_by_price(self._fleet, self._profile, left, self._avoid)[:MOST_REFUSALS]
            listed = MOST_REFUSALS - len(dear)
            left_out += max(len(refusals) - listed, 0)
            refusals = (*dear, *refusals[:listed])
        return {**reasons, "refusals": refusals, "left_out": left_out}


def gave_way(to: Sequence[Displacement], message: str) -> Json:
    """What is said of replicas that made room for others, and wait, as of a `PodSetPlacement`."""
    latest = {
        item.workload: f"guaranteed to queue {item.queue!r}" if item.queue else f"priority {item.priority}"
        for item in to
    }
    names = ", ".join(f"{name} ({reason})" for name, reason in sorted(latest.items()))
    text = f"made room for {names}" + (f"; {message}" if message else "")
    return {"reason": PREEMPTED, "message": text, "preempted": to}


def choice_of(
    fleet: Fleet, row: int, compared: Comparison, spread: FloatArray | None, further: FloatArray | None
) -> Json:
    """What a replica costs on a row and on the runner-up, as `Choice`."""
    other, cost, cost_beside, terms = compared
    if further is not None:
        where = fleet.table.domain_of(row), fleet.table.domain_of(row if other is None else other)
        here, there = (float(further[domain]) for domain in where)
        cost, cost_beside = cost + here, cost_beside + there
        apart = (0.0, 0.0) if spread is None else (float(spread[where[0]]), float(spread[where[1]]))
        weights = fleet.config.weights
        for name, weight, value, beside in (
            ("spread", weights.spread, *apart),
            ("preferences", weights.preferences, here - apart[0], there - apart[1]),
        ):
            if weight and (value or beside):
                terms[name] = (weight, round(value / weight, DIGITS), round(beside / weight, DIGITS))
    slot = fleet.slots.by_row(row)
    choice: Json = {"cluster": slot.cluster, "node": slot.name, "cost": round(cost, DIGITS), "terms": terms}
    if other is not None:
        slot = fleet.slots.by_row(other)
        choice |= {
            "runner_up_cluster": slot.cluster,
            "runner_up": slot.name,
            "runner_up_cost": round(cost_beside, DIGITS),
        }
    return choice


def refusals_of(
    fleet: Fleet, profile: Profile, avoid: Collection[int] = (), limit: int = MOST_REFUSALS
) -> tuple[tuple[Refusal, ...], int]:
    """Why no node takes such a pod, by cluster, class and filter; and how many of these groups are not listed."""
    profile.refresh()
    version = (*profile.version, tuple(sorted(avoid)), limit)
    known = profile.known_refusals
    if known is None or known[0] != version:
        groups = sorted(all_refusals(fleet, profile, avoid), key=lambda item: (-item.nodes, item.cluster))
        listed = sorted(groups[:limit], key=lambda item: (item.cluster, -item.nodes, item.node_class, item.filter))
        known = profile.known_refusals = version, (tuple(listed), max(0, len(groups) - limit))
    return known[1]


def refused_by_price(fleet: Fleet, profile: Profile, left: int, avoid: Collection[int] = ()) -> list[Refusal]:
    """Nodes that take such a pod, and on which it costs more than what is left, by cluster and class; the cheapest
    first.
    """
    table, prices = fleet.table, profile.prices()
    groups: dict[tuple[str, str], list[int]] = {}
    for row in np.flatnonzero(profile.passing(None, avoid) & (prices > left)).tolist():
        name = table.classes[table.node_class.item(row)].text
        groups.setdefault((fleet.slots.by_row(row).cluster, name), []).append(row)
    found: list[tuple[int, str, str, Refusal]] = []
    for (cluster, name), rows in groups.items():
        closest = min(rows, key=lambda row: (prices.item(row), table.order.item(row)))
        lowest = prices.item(closest)
        refusal = Refusal(
            cluster=cluster,
            node_class=name,
            nodes=len(rows),
            filter=PRICE,
            reason=f"a replica costs {in_words(lowest)} an hour or more: {in_words(lowest - left)} more than is left",
            closest=fleet.slots.by_row(closest).name,
        )
        found.append((lowest, cluster, name, refusal))
    return [item[3] for item in sorted(found, key=lambda item: item[:3])]


def all_refusals(fleet: Fleet, profile: Profile, avoid: Collection[int] = ()) -> Iterator[Refusal]:
    """Every group of nodes that is refused. Nodes that pass are in none."""
    version = (*profile.facts_version, tuple(sorted(avoid)))
    known = profile.known_fact_refusals
    if known is None or known[0] != version:
        known = version, tuple(_fact_refusals(fleet, profile, avoid))
        # A plug-in that failed may do better next time, and refuses in no cluster in particular.
        failed = any(not refusal.cluster for refusal in known[1])
        profile.known_fact_refusals = None if failed else known
    yield from known[1]
    if profile.known_fact_refusals is not None:
        shortage = profile.shortage()
        if avoid:
            rows = profile.candidates()
            rows = rows[~np.isin(fleet.table.block_cluster[rows // BLOCK], list(avoid))]
            shortage = Shortage(fleet.table, profile.request, rows)
        yield from _short(fleet, profile, shortage)
        yield from _refused_by(fleet, profile, profile.further_filters, shortage.passing)


def _fact_refusals(fleet: Fleet, profile: Profile, avoid: Collection[int]) -> Iterator[Refusal]:
    """Of nodes that are refused whatever runs on them."""
    rows = np.flatnonzero(fleet.table.alive)
    clusters = fleet.table.block_cluster[rows // BLOCK]
    closed: list[int] = []
    for cluster in fleet.clusters:
        reason = profile.refusal(cluster)
        name = CLUSTER if reason else AVOIDED
        if not reason and cluster.index in avoid:
            reason = "found no node for such pods lately, or are left"
        if reason:
            closed.append(cluster.index)
            count = int(np.count_nonzero(clusters == cluster.index))
            yield Refusal(cluster=cluster.name, nodes=count, filter=name, reason=f"in clusters that {reason}")
    if closed:
        rows = rows[~np.isin(clusters, closed)]
    yield from _refused_by(fleet, profile, profile.fact_filters, rows)


def _refused_by(fleet: Fleet, profile: Profile, filters: Iterable[Filter], rows: Rows) -> Iterator[Refusal]:
    """By each filter, of the nodes that those before it let pass."""
    for item in filters:
        if not len(rows):
            return
        try:
            mask = item.mask(NodeView(fleet.table, rows, profile.request))
            if not mask.all():
                yield from _groups(fleet, profile, item, rows[~mask])
        except PluginError as error:
            yield Refusal(cluster="", nodes=len(rows), filter=item.name, reason=str(error))
            return
        rows = rows[mask]


def _groups(fleet: Fleet, profile: Profile, item: Filter, rows: Rows) -> Iterator[Refusal]:
    """The nodes that one filter refused, which all others before it let pass, by cluster and class."""
    table = fleet.table
    by_index = {cluster.index: cluster for cluster in fleet.clusters}
    classes = len(table.classes)
    codes = table.block_cluster[rows // BLOCK] * classes + table.node_class[rows]
    counts = np.bincount(codes).tolist()
    reasons = item.reasons(NodeView(table, rows, profile.request))
    texts = [(text, np.bincount(codes[mask], minlength=len(counts)).tolist()) for text, mask in reasons]
    # Classes that differ may be called the same.
    groups: dict[tuple[str, str], list[int]] = {}
    for code, count in enumerate(counts):
        if count:
            cluster: Cluster = by_index[code // classes]
            groups.setdefault((cluster.name, table.classes[code % classes].text), []).append(code)
    for (name, class_name), members in groups.items():
        yield Refusal(
            cluster=name,
            node_class=class_name,
            nodes=sum([counts[code] for code in members]),
            filter=item.name,
            reason=", ".join([text for text, refused in texts if any(refused[code] for code in members)]),
        )


def _least(lack: Lacking) -> tuple[float, float]:
    return lack.part, lack.order


def _short(fleet: Fleet, profile: Profile, shortage: Shortage) -> Iterator[Refusal]:
    """The nodes without room, by cluster and class, with what the closest of them lacks."""
    table = fleet.table
    by_index = {cluster.index: cluster.name for cluster in fleet.clusters}
    # Classes that differ may be called the same.
    lacking: dict[tuple[str, str], list[Lacking]] = {}
    for lack in shortage.lacking:
        called = by_index[lack.cluster], table.classes[lack.node_class].text
        lacking.setdefault(called, []).append(lack)
    # Of equals the one whose name decides anywhere else too.
    closest = [min(members, key=_least).row for members in lacking.values()]
    short = short_of(table, profile.request, closest)
    for ((name, class_name), members), row, lacks in zip(lacking.items(), closest, short, strict=True):
        reasons = members[0].reasons
        if len(members) > 1:
            given = {text for lack in members for text in lack.reasons}
            reasons = tuple([text for text, _ in shortage.counts() if text in given])
        yield _refusal_for_resources(
            {
                "cluster": name,
                "node_class": class_name,
                "nodes": sum([lack.nodes for lack in members]),
                "filter": RESOURCES,
                "reason": ", ".join(reasons),
                "closest": fleet.slots.by_row(row).name,
                "short": lacks,
            }
        )
    fragmented: Counter[tuple[str, str]] = Counter()
    for item in shortage.fragmented:
        fragmented[by_index[item.cluster], table.classes[item.node_class].text] += item.nodes
    for (name, class_name), nodes in fragmented.items():
        reason = shortage.text_of_devices
        yield Refusal(cluster=name, node_class=class_name, nodes=nodes, filter=DEVICES, reason=reason)
