"""The day as Flotilla has it: its own decisions, called as its services call them, on what the virtual fleet says.

`ScaledWorkloads` says how many (the autoscaler), `SchedulerState` in which clusters (the scheduler), and `cycle.plan`
how many nodes (the autoscaler again), when `services.autoscaler.node_groups` would ask it, and with its settings. What
executors do is done at once: Deployments get their replicas, which their clusters' own schedulers bind, and node groups
their nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import orjson

from services.autoscaler.configuration import policy, scheduler_config, times
from services.autoscaler.decision.nodes.cycle import Terms, Work, plan
from services.autoscaler.decision.nodes.fleet import FleetSeen, Sized
from services.autoscaler.decision.nodes.growing import Growth
from services.autoscaler.decision.nodes.orders import Batch, Batching
from services.autoscaler.decision.nodes.planning import NodePlans
from services.autoscaler.decision.nodes.seen import GroupKey, Seen
from services.autoscaler.decision.nodes.shrinking import Shrinkage
from services.autoscaler.settings import AutoscalerSettings
from services.scheduler.decision.seen.observed import NODES, PODS
from shared.events.v1.clusters import ClusterDeclared, NodeGroup
from shared.events.v1.decisions import Decision, WorkloadPlaced
from shared.events.v1.node_groups import NodeGroupPlanned
from shared.events.v1.objects import ClusterObserved
from shared.model.identities import NODE_GROUP_LABEL, ObjectKey
from tests.bench.day_fleet import Node, VirtualFleet
from tests.bench.day_load import Group, Served
from tests.bench.day_replicas import PERIOD_MS, Json, Replicas, document
from tests.scheduling import World

_NEVER_SILENT_MS = 10**9
# A leader's round without an occasion, for what it does in time: moves, and looks for better places.
_ROUND_MS = 5_000
_MOST_ROUNDS = 1_000


class _Looks:
    """The fleet as plans ask for it. A look is made anew when anything has changed: most find nothing that has."""

    def __init__(self, fleet: FleetSeen) -> None:
        self._fleet = fleet
        self._known: dict[bool, tuple[dict[GroupKey, Sized], Seen]] = {}
        self.version = 0

    def changed(self) -> None:
        self._known.clear()
        self.version += 1

    @property
    def groups(self) -> Mapping[GroupKey, NodeGroup]:
        return self._fleet.groups

    def open_clusters(self, now_ms: int) -> frozenset[str]:
        return self._fleet.open_clusters(now_ms)

    def there(self) -> dict[GroupKey, set[str]]:
        return self._fleet.there()

    def seen(self, sized: Mapping[GroupKey, Sized], now_ms: int, *, coming: bool) -> Seen:
        known = self._known.get(coming)
        if known is None or known[0] != sized:
            self.version += 1
            known = self._known[coming] = dict(sized), self._fleet.seen(sized, now_ms, coming=coming)
        return known[1]


class Flotilla:
    """`weights` of the scheduler's cost terms replace defaults; `placement` is that of every workload, `head_room` that
    of every cluster.
    """

    def __init__(
        self,
        fleet: VirtualFleet,
        workloads: Sequence[Served],
        weights: dict[str, float] | None = None,
        placement: Json | None = None,
        head_room: Json | None = None,
    ) -> None:
        settings = AutoscalerSettings(scheduler_weights=weights or {})
        self._fleet, self._workloads = fleet, {of.key: of for of in workloads}
        self._placement, self._head_room = placement or {}, head_room
        self._terms = Terms(policy(settings), scheduler_config(settings))
        self._period_ms = round(1000 * settings.autoscaler_nodes_period_s)
        self._seen = FleetSeen(self._terms.config, times(settings).provision, settings.autoscaler_head_room)
        self._looks = _Looks(self._seen)
        self._plans = NodePlans(self._looks, self._terms.policy, times(settings))
        idle, most = settings.autoscaler_batch_idle_s, settings.autoscaler_batch_max_s
        self._batch = Batch(Batching(idle=round(1000 * idle), most=round(1000 * most)))
        self._arrived = 0
        self._scheduler = World(self._terms.config)
        self._replicas = Replicas(fleet, workloads)
        self._said = 0
        self._round_due = True
        # The plan for fewer nodes, and of what it was made.
        self._shrunk: tuple[object, Growth | Shrinkage] | None = None

    # --- how it begins, and goes on ---

    def begin(self) -> None:
        fleet = self._fleet
        self._scheduler.now = fleet.now_ms
        for cluster in fleet.clusters:
            beat = ClusterObserved(
                cluster=cluster, epoch=1, observed_at=fleet.now_ms, interval_ms=_NEVER_SILENT_MS, ready=True
            )
            mine = [group for group in fleet.groups.values() if group.cluster == cluster]
            told = declared(cluster, mine, self._head_room)
            self._scheduler.state.observe_cluster(beat, fleet.now_ms)
            self._scheduler.state.declare_cluster(cluster, told)
            self._seen.hear(cluster, beat, fleet.now_ms)
            self._seen.declare(cluster, told)
        self._plans.begin(fleet.now_ms)
        for of in self._workloads.values():
            replicas = of.replicas(of.load[0])
            fleet.ledger.want(of.name, replicas, fleet.now_ms)
            self._apply(self._scheduler.apply({**document(of, replicas), "placement": self._placement}))
        fleet.every(PERIOD_MS, self._look)
        fleet.every(self._period_ms, partial(self._plan, down=True))
        fleet.every(_ROUND_MS, self._wake)

    def settle(self) -> None:
        """All that follows from what has just happened."""
        fleet = self._fleet
        self._scheduler.now = fleet.now_ms
        for _ in range(_MOST_ROUNDS):
            fleet.schedule()
            self._observe()
            if self._round_due:
                self._round_due = False
                self._decide()
            if not fleet.restless and not self._round_due:
                break
        else:
            raise AssertionError("it does not come to rest")
        if self._seen.changed != self._arrived:
            self._arrived = self._seen.changed
            self._batch.arrived(fleet.now_ms)
            if self._batch.due_ms is not None:
                fleet.at(self._batch.due_ms, self._plan_batch)

    def _wake(self) -> None:
        self._round_due = True

    def _observe(self) -> None:
        now_ms = self._fleet.now_ms
        for node in self._fleet.take_nodes():
            self._looks.changed()
            key = ObjectKey(node.group.cluster, NODES, "", node.name)
            raw = None if node.gone else orjson.dumps(node_document(node))
            self._scheduler.state.observe_object(key, raw)
            self._seen.observe(key, raw, now_ms)
            self._round_due = True
        for pod in self._fleet.take_pods():
            self._looks.changed()
            key = ObjectKey(pod.cluster, PODS, "default", pod.name)
            raw = self._replicas.observe(pod)
            self._scheduler.state.observe_object(key, raw)
            self._seen.observe(key, raw, now_ms)
            self._round_due = True

    # --- replicas ---

    def _look(self) -> None:
        for of, said in self._replicas.look():
            self._said += 1
            self._scheduler.state.observe_scaling(of.key, said, f"fleet.scaling/0/{self._said}")
        self._round_due = True

    def _decide(self) -> None:
        self._apply(self._scheduler.pending())
        self._round_due |= self._scheduler.state.has_work

    def _apply(self, decisions: Iterable[Decision]) -> None:
        """What publisher and executors do."""
        for decision in decisions:
            assert isinstance(decision, WorkloadPlaced), decision
            self._looks.changed()
            key = decision.workload.key_text
            of = self._workloads[key]
            self._replicas.place(key, decision)
            self._seen.place(key, decision)
            shares = {share.cluster: share.replicas for item in decision.pod_sets for share in item.shares}
            for cluster in self._fleet.clusters:
                self._fleet.set_replicas(cluster, of, shares.get(cluster, 0))
            for cluster in decision.withdrawn:
                self._scheduler.withdrawn(cluster, of.name)
                self._round_due = True

    # --- nodes ---

    def _plan_batch(self) -> None:
        due_ms = self._batch.due_ms
        if due_ms is not None and self._fleet.now_ms >= due_ms:
            self._plan(down=False)

    def _plan(self, *, down: bool) -> None:
        now_ms = self._fleet.now_ms
        self._batch.planned()
        steps, result = plan(self._plans, self._terms, now_ms, down=down), None
        while True:
            try:
                work = steps.send(result)
            except StopIteration:
                break
            result = self._made(work)
        for told in self._plans.told(now_ms, {}):
            if told.ordered is not None:
                self._carry_out(told.ordered)

    def _made(self, work: Work) -> Growth | Shrinkage:
        if work.of != "shrink":
            return work.make()
        asked = self._looks.version, self._plans.drains.going
        if self._shrunk is None or self._shrunk[0] != asked:
            self._shrunk = asked, work.make()
        return self._shrunk[1]

    def _carry_out(self, order: NodeGroupPlanned) -> None:
        """What executor and provider do."""
        fleet = self._fleet
        group = fleet.groups[order.cluster, order.group]
        going = {item.node for item in order.removing}
        for node in fleet.nodes_of(group):
            if node.name in going and not node.cordoned:
                fleet.drain(node)
        staying = [node for node in fleet.nodes_of(group) if not node.cordoned]
        fleet.order(group, max(0, order.size - len(staying)))
        surplus = max(0, len(staying) - order.size)
        for node in [node for node in staying if not node.ready][:surplus]:
            fleet.delete(node)


def declared(cluster: str, groups: Sequence[Group], head_room: Json | None = None) -> ClusterDeclared:
    """As a user declares a cluster, with what its nodes cost."""
    return ClusterDeclared.model_validate(
        {
            "name": cluster,
            "headRoom": head_room,
            "nodePrices": [
                {"nodeSelector": {NODE_GROUP_LABEL: group.name}, "pricePerHour": group.price} for group in groups
            ],
            "nodeGroups": [
                {
                    "name": group.name,
                    "maxSize": group.most,
                    "price": group.price,
                    "template": {"allocatable": _allocatable(group)},
                    "provider": {"kind": "kwok"},
                }
                for group in groups
            ],
        }
    )


def node_document(node: Node) -> Json:
    return {
        "metadata": {"name": node.name, "labels": {NODE_GROUP_LABEL: node.group.name}},
        "spec": {"unschedulable": True} if node.cordoned else {},
        "status": {
            "allocatable": _allocatable(node.group),
            "conditions": [{"type": "Ready", "status": "True" if node.ready else "False"}],
        },
    }


def _allocatable(group: Group) -> dict[str, str]:
    return {"cpu": f"{group.cpu}m", "memory": str(group.memory), "pods": str(group.pods)}
