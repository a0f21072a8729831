"""The fleet as it is seen: clusters, nodes, pods, measured load. Every record is folded in time that its size takes."""

from __future__ import annotations

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.clusters import ClusterTable
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.scoring.known import Profiles
from services.scheduler.decision.scoring.line import Line
from services.scheduler.decision.scoring.mix import DemandMix
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.seen.disruptions import SeenBudgets
from services.scheduler.decision.seen.leases import Leases
from services.scheduler.decision.seen.observed import (
    BUDGETS,
    CLAIMS,
    CLASSES,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    VOLUMES,
    allocatable,
    claimed_by,
    decode_job,
    decode_namespace,
    decode_node,
    decode_pod,
    images_of,
    reach_of,
    taints_of,
    topologies_of,
)
from services.scheduler.decision.seen.pods import PodRegistry, share_of
from services.scheduler.decision.seen.recommendations import Recommendations
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.seen.slots import NO_ROW, NodeSlots
from services.scheduler.decision.table.neighbours import Neighbours, PodFacts
from services.scheduler.decision.table.nodes import NodeFacts, NodeTable
from services.scheduler.decision.table.requests import Requests
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.metrics import NodeMetricsSampled, NodeUsage
from shared.model.identities import ZONE_LABEL, ObjectKey


class Fleet:
    """`jobs_changed` collects shares whose Job ended, or is no longer known to have."""

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.clusters = ClusterTable(config)
        self.leases = Leases(config.lease_margin_ms)
        self.table = NodeTable(config.gpu_resource)
        self.neighbours = Neighbours(self.table)
        self.slots = NodeSlots(self.table, self.neighbours)
        self.requests = Requests(self.table.columns)
        self.line = Line(self.table, config.largest_first_ms)
        self.pods = PodRegistry(self.slots, self.requests)
        self.mix = DemandMix()
        self.profiles = Profiles(self.table, self.clusters, self.requests, self.mix, self.neighbours, config)
        self.budgets = SeenBudgets()
        self.recommendations = Recommendations()
        self.jobs_changed: set[ShareKey] = set()
        self._finished: dict[str, ShareKey] = {}
        self._finished_shares: set[ShareKey] = set()

    def observe_object(self, key: ObjectKey, raw: bytes | None) -> None:
        """Nodes, pods, jobs, namespaces, volumes, their claims and classes, disruption budgets; all else is ignored.
        Raises DecodeError, with nothing changed.
        """
        if key.resource == PODS:
            self._observe_pod(key, raw)
        elif key.resource == NODES:
            self._observe_node(key, raw)
        elif key.resource == JOBS:
            self._observe_job(key, raw)
        elif key.resource == NAMESPACES:
            labels = (decode_namespace(raw).metadata.labels or {}) if raw is not None else None
            self.neighbours.label_namespace(self.clusters.ensure(key.cluster).index, key.name, labels)
        elif key.resource in (CLAIMS, VOLUMES, CLASSES):
            self._observe_volume(key, raw)
        elif key.resource == BUDGETS:
            self.budgets.observe(key, raw)

    def profile_for(self, demand: Demand, facts: PodFacts | None = None) -> Profile:
        """Of pods of which others may know `facts`, if given: what running pods want of them counts as well."""
        neighbours = self.neighbours
        asked = facts is not None and (neighbours.wanted or bool(facts.terms))
        if (asked or demand.rules is not None) and not neighbours.active:
            neighbours.activate(self.slots.present())
        return self.profiles.get(demand, neighbours.about(facts)) if asked and facts else self.profiles.get(demand)

    def observe_usage(self, sample: NodeMetricsSampled) -> None:
        for usage in sample.nodes:
            slot = self.slots.get(sample.cluster, usage.name)
            if slot is not None and slot.row != NO_ROW:
                self.table.set_load(slot.row, self._load(slot.row, usage))

    def declare_cluster(self, name: str, declared: ClusterDeclared | None) -> None:
        self.clusters.declare(name, declared)
        table = self.table
        for slot in self.slots.of_cluster(name):
            if slot.row != NO_ROW and not slot.priced:
                labels = table.classes[table.node_class.item(slot.row)].labels_of(slot.name)
                table.set_price(slot.row, self.clusters.declared_price(name, labels))

    def has_finished(self, share: ShareKey, division: Division) -> bool:
        """Whether the share is a Job that ran to its end: nothing more is expected of it.

        Jobs are placed whole. One that is still there though its pod set has become something else says nothing of it.
        """
        return division is Division.TOGETHER and share in self._finished_shares

    def _observe_pod(self, key: ObjectKey, raw: bytes | None) -> None:
        name = f"{key.cluster}/{key.namespace}/{key.name}"
        if raw is None:
            self.pods.forget(name)
        else:
            self.pods.observe(name, key.cluster, key.namespace, decode_pod(raw))

    def _observe_node(self, key: ObjectKey, raw: bytes | None) -> None:
        slot = self.slots.get(key.cluster, key.name)
        if raw is None:
            if slot is None:
                return
            self.slots.forget(slot)
        else:
            node = decode_node(raw)
            amounts = allocatable(node)
            images = images_of(node) if self.config.weights.images else None
            labels = node.metadata.labels or {}
            priced, price = self.clusters.node_price(key.cluster, labels)
            cluster = self.clusters.ensure(key.cluster)
            slot = self.slots.observe(
                NodeFacts(
                    cluster=key.cluster,
                    cluster_index=cluster.index,
                    name=key.name,
                    labels=labels,
                    taints=taints_of(node),
                    allocatable=amounts,
                    price=price,
                    zone=labels.get(ZONE_LABEL, ""),
                    ready=node.ready,
                    unschedulable=node.spec.unschedulable,
                    images=images,
                )
            )
            slot.priced = priced
        self.pods.unsettled.update(hold.owner.key for hold in slot.holds if hold.owner is not None)

    def _observe_volume(self, key: ObjectKey, raw: bytes | None) -> None:
        volumes = self.table.volumes
        before = volumes.version
        cluster = self.clusters.ensure(key.cluster).index
        if key.resource == CLAIMS:
            volumes.put_claim(cluster, f"{key.namespace}/{key.name}", claimed_by(raw) if raw is not None else None)
        elif key.resource == VOLUMES:
            volumes.put_volume(cluster, key.name, reach_of(raw) if raw is not None else None)
        else:
            volumes.put_class(cluster, key.name, topologies_of(raw) if raw is not None else None)
        if volumes.version != before:
            # There may be room where there was none.
            self.table.freed += 1

    def _observe_job(self, key: ObjectKey, raw: bytes | None) -> None:
        name = f"{key.cluster}/{key.namespace}/{key.name}"
        former = self._finished.pop(name, None)
        job = decode_job(raw) if raw is not None else None
        share = share_of(key.cluster, job.metadata.labels) if job is not None and job.finished else None
        if share is not None:
            self._finished[name] = share
        if share == former:
            return
        if former is not None:
            self._finished_shares.discard(former)
            self.jobs_changed.add(former)
        if share is not None:
            self._finished_shares.add(share)
            self.jobs_changed.add(share)

    def _load(self, row: int, usage: NodeUsage) -> float:
        cpu, memory = (max(int(amount), 1) for amount in self.table.allocatable[row, :2])
        return (usage.cpu / cpu + usage.memory / memory) / 2
