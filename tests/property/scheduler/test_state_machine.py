"""Whatever happens in whatever order: no node is overcommitted, a standby comes to the same state, nothing flaps.

The clusters of this world obey: a bound pod starts where its command says, once there is room for it, and stays until
it is withdrawn, evicted or ends. So every amount below zero would be the scheduler's own doing, but for pods that it
has given up, whose room it may have given to what is more important: executors wait until they are gone.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.executor.decision.room import Needs, Node, amounts_of, lacking, needs_of
from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.asked.rendering import render_commands
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.observed import NODES, PODS
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import RequestRejected, WorkloadForgotten, WorkloadPlaced
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, ObjectKey
from shared.model.pod_objects import PodSpecObject
from shared.model.pods import PodShape
from tests.property.scheduler.fleets import CLUSTERS, nodes, workloads
from tests.scheduling import World
from tests.simulation.checker.gangs import torn

Json = dict[str, Any]
NODE_NAMES = ("n0", "n1", "n2")
WORKLOADS = ("w0", "w1", "w2", "w3")


class Scheduling(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        config = SchedulerConfig(placements_per_call=4)
        self.world = World(config)
        self.standby = World(config)
        self.behind: list[tuple[ObjectKey, Json | None]] = []
        self.folded = 0
        self.nodes: dict[tuple[str, str], Json] = {}
        self.pods: dict[tuple[str, str], Json] = {}
        self.commands: dict[tuple[str, str], CommandIssued] = {}
        self.before: dict[str, WorkloadPlaced] = {}
        # Nodes that went: if one comes back smaller, it is decided later what becomes of the replicas expected there.
        self.went: set[tuple[str, str]] = set()

    @initialize()
    def clusters(self) -> None:
        for cluster in CLUSTERS:
            self.world.cluster(cluster)
            self.standby.cluster(cluster)

    # --- what happens ---

    @rule(cluster=st.sampled_from(CLUSTERS), name=st.sampled_from(NODE_NAMES), document=nodes())
    def node(self, cluster: str, name: str, document: Json) -> None:
        known = self.nodes.get((cluster, name))
        if known is not None:
            # A node's capacity does not shrink under its pods, nor do its devices.
            document = {**document, "status": {**document["status"], "allocatable": known["status"]["allocatable"]}}
        self.nodes[cluster, name] = document
        self.observe(ObjectKey(cluster, NODES, "", name), document)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def node_goes(self, data: st.DataObject) -> None:
        cluster, name = data.draw(st.sampled_from(sorted(self.nodes)))
        for (where, pod), document in list(self.pods.items()):
            if (where, document["spec"]["nodeName"]) == (cluster, name):
                self.stop(where, pod)
        del self.nodes[cluster, name]
        self.went.add((cluster, name))
        self.observe(ObjectKey(cluster, NODES, "", name), None)

    @rule(cluster=st.sampled_from(CLUSTERS), ready=st.booleans())
    def heartbeat(self, cluster: str, ready: bool) -> None:
        self.world.cluster(cluster, ready=ready)
        self.standby.cluster(cluster, ready=ready)

    @rule(cluster=st.sampled_from(CLUSTERS))
    def leaves(self, cluster: str) -> None:
        """The cluster leaves the fleet; the next heartbeat brings it back. What it runs runs on, for all we know."""
        self.world.leaves(cluster)
        self.standby.leaves(cluster)

    @rule(name=st.sampled_from(WORKLOADS), data=st.data())
    def request(self, name: str, data: st.DataObject) -> None:
        self.decided(self.world.apply(data.draw(workloads(name, ("node",)))))

    @rule(name=st.sampled_from(WORKLOADS), replicas=st.integers(0, 7))
    def scale(self, name: str, replicas: int) -> None:
        known = self.world.placements.get(f"default/{name}")
        if known is None or known.deleting or self.gone(known):
            return
        document = known.workload.model_dump(by_alias=True, exclude_none=True, mode="json")
        document["podSets"][0]["replicas"] = replicas
        if "gang" in document["placement"]:
            minimum = document["placement"]["gang"].get("minCount", {})
            if minimum.get("set0", 0) > replicas:
                del minimum["set0"]
        before = places(known)
        decisions = self.world.apply(document)
        self.decided(decisions)
        for decision in decisions:
            assert isinstance(decision, WorkloadPlaced)
            after = places(decision)
            # Only the difference: of what was there and what is, one contains the other.
            assert before <= after or after <= before

    @rule(name=st.sampled_from(WORKLOADS))
    def delete(self, name: str) -> None:
        self.decided(self.world.delete(name))

    @rule()
    def pending(self) -> None:
        self.decided(self.world.pending())

    @precondition(lambda self: self.commands)
    @rule(data=st.data())
    def executor(self, data: st.DataObject) -> None:
        """One cluster does what one command says."""
        self.obey(self.commands[data.draw(st.sampled_from(sorted(self.commands)))])

    def obey(self, command: CommandIssued) -> None:
        name = command.subject.rpartition("/")[2]
        wanted = {
            binding.name: (group.pod_set, group.manifest, binding.node)
            for group in command.pods
            for binding in group.bindings
        }
        for (cluster, pod), document in list(self.pods.items()):
            labels = document["metadata"]["labels"]
            if (cluster, labels[WORKLOAD_LABEL]) == (command.cluster, name):
                target = wanted.get(pod)
                if target is None or not is_instance(document, target[1], target[2]):
                    self.stop(cluster, pod)
        for pod, (pod_set, manifest, node) in wanted.items():
            known = (command.cluster, node) in self.nodes and (command.cluster, pod) not in self.pods
            if known and self.has_room(command.cluster, node, manifest):
                self.start(command.cluster, pod, name, pod_set, manifest, node)
        if command.action == "withdraw":
            self.world.withdrawn(command.cluster, name, command.generation)

    @precondition(lambda self: self.pods)
    @rule(data=st.data(), evicted=st.booleans())
    def pod_ends(self, data: st.DataObject, evicted: bool) -> None:
        cluster, pod = data.draw(st.sampled_from(sorted(self.pods)))
        if evicted:
            self.stop(cluster, pod)
        else:
            self.pods[cluster, pod] = {**self.pods[cluster, pod], "status": {"phase": "Succeeded"}}
            self.observe(ObjectKey(cluster, PODS, "default", pod), self.pods[cluster, pod])

    @precondition(lambda self: self.nodes or self.pods)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """A record that comes twice changes nothing."""
        before = self.world.state.hash()
        if self.nodes:
            cluster, name = data.draw(st.sampled_from(sorted(self.nodes)))
            self.world.observe(ObjectKey(cluster, NODES, "", name), self.nodes[cluster, name])
        if self.pods:
            cluster, name = data.draw(st.sampled_from(sorted(self.pods)))
            self.world.observe(ObjectKey(cluster, PODS, "default", name), self.pods[cluster, name])
        assert self.world.state.hash() == before

    @rule(journal_first=st.booleans())
    def standby_catches_up(self, journal_first: bool) -> None:
        for stream in ("journal", "objects") if journal_first else ("objects", "journal"):
            if stream == "objects":
                for key, document in self.behind:
                    self.standby.observe(key, document)
                self.behind.clear()
                continue
            for offset, decision in enumerate(self.world.journal[self.folded :], self.folded):
                self.standby.state.apply(decision)
                self.standby.state.note_generation(decision, offset)
            self.folded = len(self.world.journal)
        assert self.standby.state.hash() == self.world.state.hash()

    @rule()
    def settled(self) -> None:
        """Once there is no work left, asking again decides nothing."""
        calls = 0
        while decisions := self.world.pending() or self.world.state.has_work:
            if decisions is not True:
                self.decided(decisions)
            calls += 1
            assert calls < 100, "work without end"
        assert self.world.pending() == []
        self.went = {(cluster, name) for cluster, name in self.went if not self.world.state.settling.is_heard(cluster)}
        assert not any(self.gone(placed) for placed in self.world.placements.values())

    # --- what always holds ---

    @invariant()
    def nothing_is_overcommitted(self) -> None:
        """What is promised has room beside all that runs, but for pods that nobody wants there any more."""
        table = self.world.state.fleet.table
        free, devices = table.free.copy(), table.devices.free.copy()
        for name, pod in self.world.state.fleet.pods._pods.items():
            hold, row = pod.hold, pod.slot.row
            if hold is not None and row >= 0 and not self.is_wanted(name, pod.slot.name):
                free[row] += hold.request.vector
                devices[row, list(hold.devices)] += hold.request.milli
        rows = [
            slot.row
            for slot in self.world.state.fleet.slots
            if slot.row >= 0 and (slot.cluster, slot.name) not in self.went
        ]
        assert (free[rows] >= 0).all()
        devices = devices[rows]
        assert ((devices >= 0) | (devices == -30_000)).all()

    @invariant()
    def room_is_held_for_pods_and_replicas_alone(self) -> None:
        """Each node is charged once for every replica and pod, or for both where one stands for the other."""
        fleet = self.world.state.fleet
        for slot in fleet.slots:
            charged = sum(dict(hold.request.amounts).get("pods", 0) for hold in slot.holds)
            seen = sum(
                (cluster, document["spec"]["nodeName"]) == (slot.cluster, slot.name)
                and document["status"]["phase"] == "Running"
                for (cluster, _), document in self.pods.items()
            )
            expected = sum(
                node == slot.name
                for placed in self.world.placements.values()
                for item in placed.pod_sets
                for share in item.shares
                if share.cluster == slot.cluster
                for node in share.nodes
            )
            assert max(0, seen) <= charged <= seen + expected

    @invariant()
    def outcomes_are_whole(self) -> None:
        for placed in self.world.placements.values():
            for item in placed.pod_sets:
                ordinals = [ordinal for share in item.shares for ordinal in share.ordinals]
                assert len(set(ordinals)) == len(ordinals) == item.placed + item.leaving
                assert item.placed <= item.desired
                assert bool(item.reason) == (item.placed < item.desired)
                assert not {share.cluster for share in item.shares} & set(placed.withdrawn)

    # --- means ---

    def gone(self, placed: WorkloadPlaced) -> bool:
        """Whether a workload is where the fleet is no more."""
        shares = {share.cluster for item in placed.pod_sets for share in item.shares}
        return not shares.isdisjoint(self.world.state.fleet.clusters.gone)

    def observe(self, key: ObjectKey, document: Json | None) -> None:
        self.world.observe(key, document)
        self.behind.append((key, document))

    def decided(self, decisions: list[Any]) -> None:
        start = len(self.world.journal) - len(decisions)
        for generation, decision in enumerate(decisions, start):
            if isinstance(decision, WorkloadPlaced):
                self.check_price(decision)
                self.check_gang(decision)
                for command in render_commands(decision, 1, generation):
                    self.commands[command.cluster, command.subject] = command
            elif isinstance(decision, WorkloadForgotten):
                for key in [key for key in self.commands if key[1] == f"workload/{decision.key}"]:
                    if key[0] not in decision.unconfirmed:
                        del self.commands[key]
            else:
                assert isinstance(decision, RequestRejected)
                assert decision.errors[0].reason == "NotFound"

    def check_gang(self, decision: WorkloadPlaced) -> None:
        """A gang is whole or nothing; what was changed keeps all of what it has, or begins anew."""
        key = str(decision.workload.key)
        before = self.before.get(key)
        self.before[key] = decision
        former = before if before is not None and before.uid == decision.uid and not before.deleting else None
        assert list(torn(former, decision)) == []
        gang = decision.workload.placement.gang
        if former is None or gang is None or former.workload == decision.workload:
            return
        gone, had, has = self.world.state.fleet.clusters.gone, places(former), places(decision)
        for item in decision.pod_sets:
            if 0 < item.placed < min(gang.min_count.get(item.name, item.desired), item.desired):
                mine = {place: count for place, count in had.items() if place[0] == item.name and place[1] not in gone}
                assert all(has[place] >= count for place, count in mine.items()) or sum(mine.values()) > item.desired

    def check_price(self, decision: WorkloadPlaced) -> None:
        """Nothing that costs anything comes to a workload that costs more than it may then."""
        limit, former = decision.workload.placement.max_price_per_hour, self.before.get(str(decision.workload.key))
        had = places(former) if former is not None and former.uid == decision.uid else Counter()
        came = places(decision) - had
        if limit is None or decision.deleting:
            return
        plans, _ = plan_workload(decision.workload, "nvidia.com/gpu")
        asked = {plan.name: plan.demand.shape for plan in plans}
        costs = {place: self.price(place[1], place[2], asked[place[0]]) for place in places(decision)}
        total = sum(costs[place] * count for place, count in places(decision).items())
        assert total <= limit + 1e-6 or not any(costs[place] for place in came)
        told = sum(item.price_per_hour or 0 for item in decision.pod_sets)
        assert abs(told - total) < 1e-6

    def price(self, cluster: str, node: str, asked: PodShape) -> float:
        document = self.nodes.get((cluster, node))
        text = document["metadata"]["labels"].get("flotilla.dev/price-per-hour", "free") if document else "free"
        if document is None or text == "free":
            return 0.0
        have = amounts_of(document["status"]["allocatable"])
        amounts = {name: amount * (asked.gpu_milli if "/" in name else 1) for name, amount in asked.requests}
        return float(text) * min(max(amount / have[name] for name, amount in amounts.items() if have.get(name)), 1.0)

    def is_wanted(self, name: str, node: str) -> bool:
        """Whether the newest command of its workload has a pod, `cluster/namespace/name`, on a node."""
        cluster, _, pod = name.split("/")
        labels = self.pods[cluster, pod]["metadata"]["labels"]
        command = self.commands.get((cluster, f"workload/default/{labels[WORKLOAD_LABEL]}"))
        return command is not None and any(
            (binding.name, binding.node) == (pod, node) for group in command.pods for binding in group.bindings
        )

    def has_room(self, cluster: str, node: str, manifest: Json) -> bool:
        """As the executor looks for it, before it binds a pod."""
        others = [
            needs(document)
            for (where, _), document in self.pods.items()
            if (where, document["spec"]["nodeName"], document["status"]["phase"]) == (cluster, node, "Running")
        ]
        room = Node(allocatable=amounts_of(self.nodes[cluster, node]["status"]["allocatable"]))
        return not lacking(needs(manifest), others, room)

    def start(self, cluster: str, pod: str, workload: str, pod_set: str, manifest: Json, node: str) -> None:
        labels = {WORKLOAD_LABEL: workload, WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: pod_set}
        metadata = {**manifest["metadata"], "labels": labels}
        spec = {**manifest["spec"], "nodeName": node}
        document = {"metadata": metadata, "spec": spec, "status": {"phase": "Running"}}
        self.pods[cluster, pod] = document
        self.observe(ObjectKey(cluster, PODS, "default", pod), document)

    def stop(self, cluster: str, pod: str) -> None:
        del self.pods[cluster, pod]
        self.observe(ObjectKey(cluster, PODS, "default", pod), None)


def needs(pod: Json) -> Needs:
    spec = msgspec.convert(pod["spec"], PodSpecObject)
    return needs_of(spec, pod["metadata"].get("annotations"))


def is_instance(pod: Json, manifest: Json, node: str) -> bool:
    """Whether a pod is what a command wants, so that it can stay."""
    return bool(pod["spec"] == {**manifest["spec"], "nodeName": node})


def places(decision: WorkloadPlaced) -> Counter[tuple[str, str, str]]:
    return Counter(
        (item.name, share.cluster, node) for item in decision.pod_sets for share in item.shares for node in share.nodes
    )


TestScheduling = Scheduling.TestCase
