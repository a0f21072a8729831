"""A candidate fleet: the nodes that there are and those that there might be, and who goes where on them.

Pods are placed by the scheduler's own code, in its order of what waits, each where it costs least. Beside what is
placed one by one (what has rules between pods, host ports or volumes) all pods of a pod set are placed by one call.

What is placed can be taken back, and node groups resized, as often as one likes: a candidate costs what differs from
the one before it. Not looked at is what the scheduler decides by workload and not by pod: shares of clusters, gangs,
queues and what a workload may cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.autoscaler.decision.nodes.scheduling import (
    ClusterTable,
    Counted,
    DemandMix,
    IntArray,
    Line,
    Neighbours,
    NodeFacts,
    NodeTable,
    Place,
    PodFacts,
    Profile,
    Profiles,
    Request,
    Requests,
    Rows,
    SchedulerConfig,
    Spread,
    take_alike,
)
from services.autoscaler.decision.nodes.seen import Cluster, Node, NodeGroup, NodeKey, Pod, PodSet, Seen, Template
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.objects import ClusterObserved


class _Charged(NamedTuple):
    """A pod on a row, as it was charged."""

    row: int
    request: Request
    devices: tuple[int, ...]
    facts: PodFacts | None


class Mark(NamedTuple):
    """What was placed until then."""

    alike: int
    charged: int


class Trial:
    """See the module. `table` is the scheduler's."""

    def __init__(self, seen: Seen, config: SchedulerConfig, *, nodes: bool = True) -> None:
        """Without `nodes` those that there are do not count, nor those that are to come."""
        self.table = NodeTable(config.gpu_resource)
        self._config = config
        self._clusters = ClusterTable(config)
        self._neighbours = Neighbours(self.table)
        self._requests = Requests(self.table.columns)
        self._line = Line(self.table, config.largest_first_ms)
        self._mix = DemandMix()
        self._profiles = Profiles(self.table, self._clusters, self._requests, self._mix, self._neighbours, config)
        self._groups = seen.groups
        self._new: list[list[int]] = [[] for _ in seen.groups]
        self._rows: dict[NodeKey, int] = {}
        self._running: dict[NodeKey, list[_Charged]] = {}
        self._alike: list[tuple[Rows, Request]] = []
        self._charged: list[_Charged] = []
        for cluster in seen.clusters:
            self._declare(cluster)
        self.knows_rules = _knows_rules(seen)
        if self.knows_rules:
            self._neighbours.activate(())
        for node in seen.nodes if nodes else ():
            self._add_node(node)

    # --- the fleet ---

    def _declare(self, cluster: Cluster) -> None:
        heartbeat = ClusterObserved(
            cluster=cluster.name, epoch=1, observed_at=0, interval_ms=1, ready=cluster.open, labels=dict(cluster.labels)
        )
        self._clusters.observe(heartbeat, 0)
        self._clusters.declare(cluster.name, ClusterDeclared(name=cluster.name, taints=cluster.taints))

    def _add_node(self, node: Node) -> None:
        facts = NodeFacts(
            cluster=node.cluster,
            cluster_index=self._clusters.ensure(node.cluster).index,
            name=node.name,
            labels=node.labels,
            taints=node.taints,
            allocatable=node.allocatable,
            price=node.price,
            zone=node.zone,
            ready=node.ready,
            unschedulable=node.unschedulable,
        )
        self._rows[node.key] = row = self.table.add(facts)
        self._running[node.key] = [self._charge(row, self._request_of(pod), pod.facts) for pod in node.pods]

    def add(self, group: int, count: int) -> None:
        """So many new nodes more of the group with this number."""
        made = self._groups[group]
        first = len(self._new[group])
        for number in range(first, first + count):
            self._new[group].append(self._add_new(made, made.template, f"{made.name}-new-{number}"))

    def _add_new(self, group: NodeGroup, template: Template, name: str) -> int:
        labels = {**template.labels, "kubernetes.io/hostname": name}
        return self.table.add(
            NodeFacts(
                cluster=group.cluster,
                cluster_index=self._clusters.ensure(group.cluster).index,
                name=name,
                labels=labels,
                taints=template.taints,
                allocatable=template.allocatable,
                price=group.price,
                zone=template.zone,
            )
        )

    def resize(self, sizes: Sequence[int]) -> None:
        """So many new nodes of each group, and nothing on any of them: what was placed is taken back."""
        self.take_back(Mark(0, 0))
        for group, size in enumerate(sizes):
            rows = self._new[group]
            while len(rows) > size:
                self.table.remove(rows.pop())
            if len(rows) < size:
                self.add(group, size - len(rows))

    def drop(self, group: int) -> None:
        """One new node of the group less, the last one; nothing is on it."""
        self.table.remove(self._new[group].pop())

    def new_rows(self, group: int) -> list[int]:
        return self._new[group]

    def row_of(self, node: NodeKey) -> int:
        return self._rows[node]

    def close(self, node: NodeKey) -> None:
        """No pod goes there any more; those that are there stay."""
        self._set_ready(self._rows[node], ready=False)

    def close_new(self) -> None:
        """The same for all new nodes that there are."""
        for rows in self._new:
            for row in rows:
                self._set_ready(row, ready=False)

    def open(self, node: NodeKey) -> None:
        """What `close` did is undone, to a node that was ready."""
        self._set_ready(self._rows[node], ready=True)

    def _set_ready(self, row: int, *, ready: bool) -> None:
        self.table.ready[row] = ready
        self.table.facts_log.add(row, self.table.rows)

    # --- who goes where ---

    def profile(self, pod_set: PodSet) -> Profile:
        facts, neighbours = pod_set.facts, self._neighbours
        asked = facts is not None and neighbours.active and (neighbours.wanted or bool(facts.terms))
        if asked and facts is not None:
            return self._profiles.get(pod_set.demand, neighbours.about(facts))
        return self._profiles.get(pod_set.demand)

    def place(self, pod_sets: Sequence[PodSet]) -> list[Rows]:
        """The rows that pods of each pod set get; as many as find a place. They are tried in the scheduler's order, on
        the fleet as it is.
        """
        places = [self._place_in_line(pod_set) for pod_set in pod_sets]
        found: dict[int, Rows] = {}
        for number in sorted(range(len(pod_sets)), key=lambda number: (places[number], number)):
            found[number] = self.place_one(pod_sets[number])
        return [found[number] for number in range(len(pod_sets))]

    def _place_in_line(self, pod_set: PodSet) -> Place:
        size = self._line.size(self.profile(pod_set).request)
        return self._line.place(pod_set.priority, pod_set.requested_at, pod_set.key, size)

    def place_one(self, pod_set: PodSet) -> Rows:
        profile = self.profile(pod_set)
        # Which devices a pod has is only told one by one.
        if not profile.request.devices and profile.in_kernel(self._profiles.facts_version):
            return self._place_alike(pod_set, profile)
        return self._place_each(pod_set, profile)

    def _place_alike(self, pod_set: PodSet, profile: Profile) -> Rows:
        table = self.table
        in_domain = np.zeros(table.domains, np.int64)
        in_cluster = np.zeros(table.clusters_with_domains, np.int64)
        for key in pod_set.placed:
            row = self._rows.get(key)
            if row is not None:
                in_domain[table.domain_of(row)] += 1
                in_cluster[table.cluster_of(row)] += 1
        counted = Counted(in_domain, in_cluster, max(pod_set.desired, pod_set.count), self._config.weights.spread)
        rows = take_alike(table, self._mix, profile, pod_set.count, counted)
        self._alike.append((rows, profile.request))
        return rows

    def _place_each(self, pod_set: PodSet, profile: Profile) -> Rows:
        spread = Spread(self.table, max(pod_set.desired, pod_set.count), self._config.weights.spread)
        for key in pod_set.placed:
            if key in self._rows:
                spread.add(self._rows[key])
        rows: list[int] = []
        while len(rows) < pod_set.count:
            row = profile.best(spread.costs())
            if row is None:
                break
            self._charged.append(self._charge(row, profile.request, pod_set.facts))
            spread.add(row)
            rows.append(row)
        return np.array(rows, np.intp)

    def most_on(self, pod_set: PodSet, rows: Rows, limit: int) -> IntArray:
        """How many such pods each of these rows takes alone; where there are rules between pods, up to a limit."""
        profile = self.profile(pod_set)
        passing = profile.passing()[rows]
        most = np.where(passing, profile.room(rows), 0)
        if profile.demand.rules is None and not (pod_set.facts is not None and pod_set.facts.terms):
            return np.asarray(most)
        for place in np.flatnonzero(passing).tolist():
            most[place] = self._most_with_rules(pod_set, rows.item(place), min(limit, int(most[place])))
        return np.asarray(most)

    def _most_with_rules(self, pod_set: PodSet, row: int, limit: int) -> int:
        mark, profile = self.mark(), self.profile(pod_set)
        while len(self._charged) - mark.charged < limit and profile.cost(row) != np.inf:
            self._charged.append(self._charge(row, profile.request, pod_set.facts))
            profile = self.profile(pod_set)
        found = len(self._charged) - mark.charged
        self.take_back(mark)
        return found

    def room_for(self, pod_set: PodSet) -> int:
        """How many such pods there is room for at most, one beside the other."""
        return self.profile(pod_set).room_in_all()

    def mark(self) -> Mark:
        return Mark(len(self._alike), len(self._charged))

    def take_back(self, mark: Mark) -> None:
        """What was placed since then has no place any more."""
        table = self.table
        for rows, request in self._alike[mark.alike :]:
            np.add.at(table.free, rows, request.vector)
            for row in np.unique(rows).tolist():
                table.usage_log.add(row, table.rows)
        del self._alike[mark.alike :]
        for charged in reversed(self._charged[mark.charged :]):
            self._discharge(charged)
        del self._charged[mark.charged :]

    # --- what runs ---

    def lift(self, node: NodeKey) -> list[_Charged]:
        """What runs on a node is nowhere until `put_back`."""
        running = self._running[node]
        for charged in running:
            self._discharge(charged)
        return running

    def put_back(self, node: NodeKey) -> None:
        self._running[node] = [
            self._charge(charged.row, charged.request, charged.facts) for charged in self._running[node]
        ]

    def _request_of(self, pod: Pod) -> Request:
        shape = pod.demand.shape
        return self._requests.intern(shape.requests, shape.gpu_milli, shape.host_ports)

    def _charge(self, row: int, request: Request, facts: PodFacts | None) -> _Charged:
        devices = self.table.charge(row, request)
        if facts is not None:
            self._neighbours.add(row, facts, 1)
        return _Charged(row, request, devices, facts)

    def _discharge(self, charged: _Charged) -> None:
        self.table.discharge(charged.row, charged.request, charged.devices)
        if charged.facts is not None:
            self._neighbours.add(charged.row, charged.facts, -1)


def _knows_rules(seen: Seen) -> bool:
    """Whether any pod asks anything of others, so that all of them have to be counted."""
    waiting = (*seen.pending, *seen.head_room)
    if any(item.demand.rules is not None or (item.facts is not None and item.facts.terms) for item in waiting):
        return True
    return any(pod.facts is not None and pod.facts.terms for node in seen.nodes for pod in node.pods)
