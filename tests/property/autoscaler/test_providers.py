"""Node groups whose providers fail, lie, are slow or silent, and clusters that fall silent: what is ordered then.

- No group is asked for more than its owner allows, for less than he wants, or for what is dearer than the limit.
- No more nodes are on their way than pods wait, and none is asked of a group whose provider lacked some a moment ago.
- Nothing is ordered of a cluster that was not heard of lately.
- Who waits and gets no node is told, with the reason; an order says why as well. The workload is told so too,
  for as long as it is so, and nothing twice.
- When all but one provider are well, everybody has a place soon, and nothing is ordered any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.autoscaler.decision.nodes.cycle import Terms, Waiting, plan
from services.autoscaler.decision.nodes.draining import Times
from services.autoscaler.decision.nodes.fleet import FleetSeen
from services.autoscaler.decision.nodes.outlooks import Outlooks
from services.autoscaler.decision.nodes.planning import PODS_WAIT, NodePlans, Told
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.seen import Limits
from services.autoscaler.decision.nodes.telling import command_of
from shared.events.registry import decode
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.node_groups import NodeGroupPlanned, NodesPlanned
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.results import CommandReported
from shared.events.v1.waiting import NodesAwaited
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, ObjectKey
from shared.ports.event_log import NewRecord
from tests.node_groups import (
    declared,
    group_json,
    node_at,
    node_json,
    placement,
    pod_at,
    report_at,
    running_pod,
    workload_json,
)

NOW = 1_800_000_000_000
CONFIG = SchedulerConfig()
PROVISION_MS, UNNEEDED_MS, INTERVAL_MS = 60_000, 20_000, 5_000
# As of the scheduler: three intervals.
SILENT_MS = 3 * INTERVAL_MS
KEY = "default/web"
OURS = {WORKLOAD_LABEL: "web", WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: "main"}
GROUPS = {
    "east/small": group_json("small", cpu="4", most=6, price=1.0),
    "east/large": group_json("large", cpu="8", most=4, price=2.5, minSize=1),
    "west/small": group_json("small", cpu="4", most=6, price=1.2),
}
CLUSTERS = ("east", "west")
LEAST = sum(group.get("minSize", 0) for group in GROUPS.values())
# What executors hear of a provider that does nothing.
REFUSALS = {
    "empty": "OutOfStock",
    "forbidden": "Forbidden",
    "refusing": "Refused",
    "mute": "ProviderUnavailable",
}
SETTLING = ("honest", "slow", *REFUSALS, "liar", "generous", "unready")
# Whose nodes are too small, or go by themselves, is asked again and again, as often as its nodes come.
MODES = (*SETTLING, "stingy", "lossy")

groups = st.sampled_from(sorted(GROUPS))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("mode"), groups, st.sampled_from(MODES)),
        st.tuples(st.just("desire"), st.none(), st.sampled_from([0, 1, 3, 9, 17, 30])),
        st.tuples(st.just("pass"), st.none(), st.sampled_from([1, 5, 5, 21, 61, 301])),
        st.tuples(st.just("pass"), st.none(), st.just(5)),
        st.tuples(st.just("hear"), st.sampled_from(CLUSTERS), st.booleans()),
        st.tuples(st.just("restart"), st.none(), st.none()),
    ),
    min_size=15,
    max_size=40,
)


@dataclass
class Machine:
    """A node as it truly is."""

    group: str
    cpus: float
    ready: bool
    since_ms: int
    pods: set[str] = field(default_factory=set)

    @property
    def cluster(self) -> str:
        return self.group.partition("/")[0]


class World:
    """Clusters, their providers and executors, a scheduler in a few lines, and the planner of node groups."""

    def __init__(self, limit: float | None) -> None:
        self.now = NOW
        self.limit = limit
        self.policy = Policy(limits=Limits(price_per_hour=limit), unneeded_ms=UNNEEDED_MS)
        self.modes = dict.fromkeys(GROUPS, "honest")
        self.heard = dict.fromkeys(CLUSTERS, True)
        self.heard_ms = dict.fromkeys(CLUSTERS, NOW)
        self.nodes: dict[str, Machine] = {}
        self.made = 0
        self.desired = 0
        self.placed: dict[str, str] = {}
        self.records: dict[str, NodeGroupPlanned] = {}
        self.ordered_ms: dict[str, int] = {}
        self.reported: dict[str, tuple[Any, ...]] = {}
        self.plan: NodesPlanned | None = None
        self.ordered = False
        self.awaited: dict[str, NodesAwaited] = {}
        self.stood: Any
        self.begin()

    # --- the planner ---

    def begin(self) -> None:
        """A life, from what was told and what there is."""
        self.fleet = FleetSeen(CONFIG, PROVISION_MS)
        self.plans = NodePlans(self.fleet, self.policy, Times(provision=PROVISION_MS, patience=300_000, rest=30_000))
        for cluster in CLUSTERS:
            own = [group for key, group in GROUPS.items() if key.startswith(f"{cluster}/")]
            self.fleet.declare(cluster, decode(ClusterDeclared, declared(*own, cluster=cluster).value))
            self.beat(cluster, self.heard_ms[cluster])
        for name in self.nodes:
            self.tell_node(name)
        for name in self.placed:
            self.tell_pod(name)
        self.place()
        for key, record in self.records.items():
            self.plans.restore(key, record)
        self.plans.restore_plan(self.plan)
        self.outlooks, self.stood = Outlooks(), None
        for key, said in self.awaited.items():
            self.outlooks.restore(key, said)
        self.plans.begin(self.now)

    def beat(self, cluster: str, heard_ms: int) -> None:
        beat = ClusterObserved(cluster=cluster, epoch=1, observed_at=heard_ms, interval_ms=INTERVAL_MS, ready=True)
        self.fleet.hear(cluster, beat, heard_ms)

    def tell(self, record: NewRecord, at_ms: int = 0) -> None:
        assert record.key is not None
        self.fleet.observe(ObjectKey.parse(record.key.decode()), record.value, at_ms or self.now)

    def tell_node(self, name: str) -> None:
        machine = self.nodes[name]
        document = node_json(machine.group.partition("/")[2], cpu=f"{round(1000 * machine.cpus)}m", ready=machine.ready)
        # Its record has the time of its own, also for who reads it later.
        self.tell(node_at(name, document, cluster=machine.cluster), machine.since_ms)

    def tell_pod(self, name: str) -> None:
        node = self.placed[name]
        document = running_pod(node, metadata={"labels": OURS})
        self.tell(pod_at(name, document, cluster=self.nodes[node].cluster))

    def look(self) -> None:
        """As the service does at each period."""
        making = plan(self.plans, Terms(self.policy, CONFIG), self.now, down=True)
        result = None
        while True:
            try:
                result = making.send(result).make()
            except StopIteration as end:
                waiting: Waiting = end.value
                break
        former = dict(self.records)
        told = list(self.plans.told(self.now, {}))
        for item in told:
            assert item.planned is not None
            self.records[item.key] = decode(NodeGroupPlanned, item.planned.to_json())
            if item.ordered is not None:
                self.ordered_ms[item.key] = self.now
        self.plan = self.plans.plan_told() or self.plan
        self.judge(former, told)
        self.ordered = any(item.ordered for item in told)
        self.judge_awaited(waiting)

    # --- what must hold ---

    @property
    def waiting(self) -> int:
        return self.desired - len(self.placed)

    def present(self, key: str) -> set[str]:
        return {name for name, machine in self.nodes.items() if machine.group == key}

    def is_silent(self, cluster: str) -> bool:
        return self.now - self.heard_ms[cluster] >= SILENT_MS

    def judge(self, former: dict[str, NodeGroupPlanned], told: Iterable[Told]) -> None:
        grown: Counter[str] = Counter()
        for item in told:
            after, before = self.records[item.key], former.get(item.key)
            group, present = GROUPS[item.key], self.present(item.key)
            going = {removal.node for removal in after.removing}
            assert group.get("minSize", 0) <= after.size <= max(group["maxSize"], len(present - going))
            if item.ordered is None:
                continue
            assert not self.is_silent(after.cluster)
            assert after.reason
            assert after.message
            assert going <= present
            held = before.size + len(before.removing) if before is not None else 0
            if after.reason == PODS_WAIT and after.size + len(going) > held:
                grown[item.key] = after.size + len(going) - held
                assert after.lacked_at is None or self.now >= after.lacked_at + after.closed_ms
        assert grown.total() <= self.waiting
        assert not grown or self.coming() <= self.waiting + LEAST
        if grown and self.limit is not None:
            assert self.price() <= self.limit + 1e-9
        self.judge_told()

    def coming(self) -> int:
        """Nodes that were asked for and are not there, of clusters that are heard."""
        open_to = {key: record for key, record in self.records.items() if not self.is_silent(record.cluster)}
        asked = {key: record.size + len(record.removing) for key, record in open_to.items()}
        return sum(max(0, size - len(self.present(key))) for key, size in asked.items())

    def price(self) -> float:
        """Of what is asked for, and of what is there."""
        sizes = {key: record.size + len(record.removing) for key, record in self.records.items()}
        return sum(max(size, len(self.present(key))) * float(GROUPS[key]["price"]) for key, size in sizes.items())

    def judge_told(self) -> None:
        """Whoever waits, while no node may still come, is told why."""
        young = any(not item.ready and self.is_young(item) for item in self.nodes.values())
        coming = any(record.size > len(self.present(key)) for key, record in self.records.items())
        if self.waiting and not young and not coming:
            assert self.plan is not None
            room = sum(int(machine.cpus) - len(machine.pods) for machine in self.open_nodes().values())
            assert sum(item.count for item in self.plan.unplaced) >= self.waiting - room
            assert all(item.reason for item in self.plan.unplaced)

    def judge_awaited(self, waiting: Waiting) -> None:
        """The workload is told what the plan means for it; what it says is so; and only what is another is told."""
        for key, said in self.outlooks.news(waiting.outlooks, self.fleet.owners(), self.now):
            assert self.ordered or self.standing() != self.stood, "nothing has happened"
            if said is None:
                del self.awaited[key]
            else:
                self.awaited[key] = decode(NodesAwaited, said.to_json())
        self.stood = self.standing()
        assert self.awaited.keys() == ({KEY} if self.waiting else set())
        if self.waiting:
            told = self.awaited[KEY]
            assert told.coming == (waiting.without_node == 0) == (told.reason == "Ordered")
            closed = any(self.is_closed(record) for record in self.records.values())
            assert closed or told.reason not in ("OutOfStock", "ProviderFailed")
            assert told.reason != "ProviderFailed" or "OutOfStock" not in told.message
            assert told.reason != "ClusterClosed" or any(map(self.is_silent, CLUSTERS))

    def standing(self) -> Any:
        """All that a plan may depend on, but for what is ordered by it."""
        nodes = {name: (item.ready, self.is_young(item), len(item.pods)) for name, item in self.nodes.items()}
        groups = {key: (item.size, self.is_closed(item), item.message) for key, item in self.records.items()}
        return self.waiting, nodes, groups, {name for name in CLUSTERS if self.is_silent(name)}

    def is_young(self, machine: Machine) -> bool:
        return self.now - machine.since_ms < PROVISION_MS

    def is_closed(self, record: NodeGroupPlanned) -> bool:
        return record.lacked_at is not None and self.now < record.lacked_at + record.closed_ms

    # --- the rest of the world ---

    def pass_by(self, seconds: int) -> None:
        self.now += 1000 * seconds
        for cluster, heard in self.heard.items():
            if heard:
                self.heard_ms[cluster] = self.now
                self.beat(cluster, self.now)
        for key in GROUPS:
            self.carry_out(key)
        self.place()
        self.look()

    def carry_out(self, key: str) -> None:
        """What executor and provider make of the last order; one that is not heard goes on with it."""
        record, mode = self.records.get(key), self.modes[key]
        if mode == "lossy":
            for name in sorted(self.present(key))[:1]:
                self.delete(name)
        if record is None or not record.generation:
            return
        for name in {removal.node for removal in record.removing} & self.present(key):
            self.delete(name)
        missing = record.size - len(self.present(key))
        if missing > 0 and self.now - self.ordered_ms.get(key, 0) >= self.delay(mode):
            self.make(key, missing, mode)
        size = record.size if mode == "liar" else len(self.present(key))
        self.report(key, record, REFUSALS.get(mode, "") if missing > 0 else "", size)

    def delay(self, mode: str) -> int:
        return PROVISION_MS + 30_000 if mode == "slow" else 0

    def make(self, key: str, count: int, mode: str) -> None:
        if mode in REFUSALS or mode == "liar":
            return
        full = float(GROUPS[key]["template"]["allocatable"]["cpu"])
        for _ in range(count + (mode == "generous")):
            self.made += 1
            name = f"n{self.made}"
            cpus = 0.5 if mode == "stingy" else full
            self.nodes[name] = Machine(key, cpus, ready=mode != "unready", since_ms=self.now)
            self.tell_node(name)

    def report(self, key: str, record: NodeGroupPlanned, reason: str, size: int) -> None:
        """Once, until it differs."""
        said = record.epoch, record.generation, reason, size
        if self.reported.get(key) != said:
            self.reported[key] = said
            order = command_of(record)
            told = report_at(order, reason=reason, outcome="failed" if reason else "applied")
            self.plans.report(decode(CommandReported, told.value), self.now)

    def delete(self, name: str) -> None:
        machine = self.nodes.pop(name)
        for pod in machine.pods:
            del self.placed[pod]
            self.tell(pod_at(pod, None, cluster=machine.cluster))
        self.tell(node_at(name, None, cluster=machine.cluster))

    def open_nodes(self) -> dict[str, Machine]:
        going = {removal.node for record in self.records.values() for removal in record.removing}
        return {
            name: machine
            for name, machine in self.nodes.items()
            if machine.ready and name not in going and not self.is_silent(machine.cluster)
        }

    def place(self) -> None:
        """Each pod where there is room: on nodes that are ready and stay, in clusters that are heard."""
        open_to = self.open_nodes()
        for number in range(self.desired):
            pod = f"web-{number}"
            if pod in self.placed:
                continue
            free = next((name for name, machine in open_to.items() if len(machine.pods) + 1 <= machine.cpus), None)
            if free is None:
                break
            self.nodes[free].pods.add(pod)
            self.placed[pod] = free
            self.tell_pod(pod)
        shares: dict[str, list[str]] = {}
        for node in self.placed.values():
            shares.setdefault(self.nodes[node].cluster, []).append(node)
        body = placement(workload_json(replicas=self.desired), desired=self.desired, shares=shares)
        self.fleet.place(KEY, body)

    def desire(self, count: int) -> None:
        self.desired = count
        for pod in [pod for pod in self.placed if int(pod.partition("-")[2]) >= count]:
            machine = self.nodes[self.placed.pop(pod)]
            machine.pods.discard(pod)
            self.tell(pod_at(pod, None, cluster=machine.cluster))
        self.place()

    def step(self, kind: str, about: str | None, value: Any) -> None:
        match kind, about:
            case "mode", str():
                self.modes[about] = value
            case "desire", _:
                self.desire(value)
            case "hear", str():
                self.heard[about] = value
            case "restart", _:
                self.begin()
        self.pass_by(value if kind == "pass" else 1)


@given(steps, st.sampled_from([None, None, 9.0]), groups, st.sampled_from(SETTLING), st.sampled_from([1, 9, 17, 30]))
def test_providers_that_fail_lie_or_are_slow_are_asked_for_no_more_than_is_allowed(
    taken: list[tuple[str, str | None, Any]], limit: float | None, bad: str, mode: str, last: int
) -> None:
    world = World(limit)
    for step in taken:
        world.step(*step)
    # From now on all but one is well; what is closed opens within half an hour, and nodes that did not begin do.
    world.modes = dict.fromkeys(GROUPS, "honest") | {bad: mode}
    world.heard = dict.fromkeys(CLUSTERS, True)
    for name, machine in world.nodes.items():
        machine.ready = True
        world.tell_node(name)
    for desired in (0, last):
        world.desire(desired)
        assert settles(world), "orders go on and on, or somebody waits for ever"


def settles(world: World) -> bool:
    quiet = 0
    for _ in range(200):
        world.pass_by(21)
        quiet = 0 if world.ordered or (world.waiting and world.limit is None) else quiet + 1
        if quiet > 4:
            return True
    return False
