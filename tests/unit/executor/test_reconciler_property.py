"""Whatever happens, in whatever order: nothing older is applied, nothing foreign deleted, no node overcommitted, and it
converges.

Hypothesis plays the scheduler's publisher (new, repeated and stale records, tombstones), users and controllers who
change and delete things, API servers that fail, watches that lag and break, and processes that are killed anywhere.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from services.executor.decision.backoff import CallFailed, Policy
from services.executor.decision.fence import OPEN, Fence
from services.executor.decision.identity import GroupKind, ObjectId
from services.executor.decision.instructions import Apply, Bind, Call, Stamp
from shared.events.v1.commands import CommandIssued, PodBinding, PodGroup
from shared.model.identities import EPOCH_ANNOTATION, FENCE_ANNOTATION, GENERATION_ANNOTATION
from tests.unit.executor.builders import command, config_map, deployment, pod_group, withdrawal
from tests.unit.executor.model import ModelCluster, Rig

SUBJECTS = ("workload/shop/a", "workload/shop/b", "workload/store/c")
NODES = ("n0", "n1", "n2")
# Pods that a node has room for. What the newest commands want together never is more.
ROOM = 2
QUICK = Policy(
    backoff_base_ms=100,
    backoff_cap_ms=2_000,
    repair_base_ms=100,
    repair_cap_ms=2_000,
    resync_ms=60_000,
    stamp_ms=5_000,
)
FAILURES = (
    CallFailed(500, "InternalError", "broken"),
    CallFailed(0, "Timeout", "no answer"),
    CallFailed(429, "TooManyRequests", "later", retry_after_s=0.5),
    CallFailed(409, "Conflict", "again"),
    CallFailed(422, "Invalid", "no"),
)

contents = st.fixed_dictionaries(
    {
        "deployments": st.lists(st.sampled_from(["x", "y"]), unique=True),
        "settings": st.booleans(),
        "pods": st.dictionaries(st.sampled_from(["p0", "p1", "p2", "p3"]), st.sampled_from(NODES)),
        "image": st.sampled_from(["v1", "v2", "v3"]),
    }
)


class Fleet(RuleBasedStateMachine):
    """`topic` is the command topic, every record of it; compaction keeps the last of each subject."""

    commands = Bundle("commands")

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Watched()
        self.rig = Rig(self.cluster, policy=QUICK)
        self.topic: list[tuple[str, CommandIssued | None]] = []
        self.generation = 0
        self.epoch = 1
        self.random = random.Random(0)

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.random.seed(seed)
        for node in NODES:
            self.cluster.node(node, has={"pods": str(ROOM)})
        self.cluster.put(
            GroupKind("apps", "Deployment"), deployment("foreign", namespace="shop", annotations={"kept": "yes"})
        )

    # The publisher

    @rule(target=commands, subject=st.sampled_from(SUBJECTS), content=contents)
    def issue(self, subject: str, content: dict[str, Any]) -> CommandIssued:
        self.generation += 1
        prefix = subject.rpartition("/")[2]
        objects = [deployment(f"{prefix}-{name}", image=content["image"]) for name in content["deployments"]]
        objects += [config_map(f"{prefix}-settings", image=content["image"])] if content["settings"] else []
        nodes = self.fitting(subject, {f"{prefix}-{name}": node for name, node in content["pods"].items()})
        pods = [pod_group(nodes, image=content["image"])] if nodes else []
        issued = command(self.generation, *objects, pods=pods, subject=subject, epoch=self.epoch)
        self.publish(issued)
        return issued

    @rule(target=commands, subject=st.sampled_from(SUBJECTS))
    def withdraw(self, subject: str) -> CommandIssued:
        self.generation += 1
        issued = withdrawal(self.generation, subject=subject, epoch=self.epoch)
        self.publish(issued)
        return issued

    @rule(old=commands)
    def repeat(self, old: CommandIssued) -> None:
        self.publish(old)

    @rule(target=commands, old=commands)
    def same_content_again(self, old: CommandIssued) -> CommandIssued:
        self.generation += 1
        pods = [group.model_copy(update={"bindings": self.still_fitting(old.subject, group)}) for group in old.pods]
        same = {"generation": self.generation, "epoch": self.epoch, "pods": tuple(pods)}
        issued = old.model_copy(update=same)
        self.publish(issued)
        return issued

    @rule(old=commands)
    def replaced_leader(self, old: CommandIssued) -> None:
        """A leader that does not know that it was replaced: a higher generation with an older epoch."""
        self.epoch += 1
        self.generation += 1
        newest = self.newest(old.subject)
        if newest is not None and newest.action == "run":
            self.publish(newest.model_copy(update={"generation": self.generation, "epoch": self.epoch}))
            zombie = old.model_copy(update={"generation": self.generation + 1, "epoch": self.epoch - 1})
            self.generation += 1
            self.publish(zombie)

    def fitting(self, subject: str, nodes: Mapping[str, str]) -> dict[str, str]:
        """Those for which there is room beside what the other subjects' newest commands want."""
        others = [self.newest(name) for name in SUBJECTS if name != subject]
        taken = Counter(binding.node for other in others if other for group in other.pods for binding in group.bindings)
        fitting: dict[str, str] = {}
        for name, node in sorted(nodes.items()):
            if taken[node] < ROOM:
                fitting[name] = node
                taken[node] += 1
        return fitting

    def still_fitting(self, subject: str, group: PodGroup) -> tuple[PodBinding, ...]:
        nodes = self.fitting(subject, {binding.name: binding.node for binding in group.bindings})
        return tuple(binding for binding in group.bindings if binding.name in nodes)

    def publish(self, issued: CommandIssued) -> None:
        self.topic.append((issued.subject, issued))
        self.rig.issue(issued)

    # The world

    @rule(number=st.integers(0, 100))
    def somebody_deletes(self, number: int) -> None:
        if owned := self.owned():
            self.cluster.remove(owned[number % len(owned)])

    @rule(number=st.integers(0, 100))
    def somebody_changes(self, number: int) -> None:
        if owned := self.owned():
            object_id = owned[number % len(owned)]
            field = "data" if object_id.kind.kind == "ConfigMap" else "spec"
            key = {"ConfigMap": "image", "Deployment": "replicas", "Pod": "containers"}[object_id.kind.kind]
            value: Any = [{"name": "main", "image": "evil"}] if key == "containers" else "wrong"
            self.cluster.change(object_id, lambda d: d[field].update({key: value}))

    @rule(number=st.integers(0, 100), phase=st.sampled_from(["Failed", "Running"]))
    def pod_goes_on(self, number: int, phase: str) -> None:
        owned = [object_id for object_id in self.owned() if object_id.kind.kind == "Pod"]
        pods = [i for i in owned if self.cluster.objects[i].get("status", {}).get("phase") != "Failed"]
        if pods:
            ready = {"type": "Ready", "status": "True" if phase == "Running" else "False"}
            status = {"phase": phase, "conditions": [ready]}
            self.cluster.change(pods[number % len(pods)], lambda d: d.update(status=status))

    @rule()
    def kubelets_end_pods(self) -> None:
        self.cluster.confirm_deletions()

    @rule(node=st.sampled_from(NODES), cordoned=st.booleans())
    def cordon(self, node: str, cordoned: bool) -> None:
        self.cluster.node(node, unschedulable=cordoned, has={"pods": str(ROOM)})

    @rule(rate=st.sampled_from([0.0, 0.3, 1.0]))
    def api_server_fails(self, rate: float) -> None:
        def fault(_: Call) -> CallFailed | None:
            return self.random.choice(FAILURES) if self.random.random() < rate else None

        self.cluster.fault = fault

    @rule(kind=st.sampled_from(["Deployment", "Pod"]))
    def watch_breaks(self, kind: str) -> None:
        self.rig.relist(GroupKind("apps" if kind == "Deployment" else "", kind))

    # The process

    @rule(held=st.booleans(), seconds=st.sampled_from([0.0, 0.2, 3.0]))
    def works(self, held: bool, seconds: float) -> None:
        self.rig.held_events = held
        self.rig.pass_time(seconds, step=0.2) if seconds else self.rig.settle()

    @rule(calls=st.integers(0, 4), compacted=st.booleans())
    def is_killed(self, calls: int, compacted: bool) -> None:
        """kill -9 after some calls of a turn, whose answers are lost; then another process reads the topic."""
        subject = self.rig.take()
        if subject is not None:
            for call in self.rig.turn(subject)[:calls]:
                self.cluster.answer(call)
        self.cluster.restarted()
        self.rig.restart()
        records = list(dict(self.topic).items()) if compacted else self.topic
        self.rig.issue(*(issued for _, issued in records if issued is not None))

    # What holds always

    @invariant()
    def nothing_older_was_applied(self) -> None:
        assert self.cluster.violations == []

    @invariant()
    def no_node_is_overcommitted(self) -> None:
        assert max(self.cluster.on_nodes().values(), default=0) <= ROOM

    @rule()
    def a_binding_is_carried_out_late(self) -> None:
        """Its answer was never heard."""
        self.cluster.bind_late()

    @invariant()
    def nothing_foreign_was_touched(self) -> None:
        assert all(d["metadata"]["name"] != "foreign" for d in self.cluster.deleted)
        foreign = self.cluster.objects[ObjectId(GroupKind("apps", "Deployment"), "shop", "foreign")]
        assert foreign["metadata"]["annotations"] == {"kept": "yes"}

    def teardown(self) -> None:
        """Peace: no more failures, the leader publishes the newest again where it has to, and all is as desired."""
        self.rig.held_events = False
        self.cluster.fault = lambda _: None
        for node in NODES:
            self.cluster.node(node, has={"pods": str(ROOM)})
        for subject in SUBJECTS:
            newest = self.newest(subject)
            if newest is not None:
                self.publish(newest)
        for _ in range(40):
            self.rig.pass_time(1.0, step=0.5)
            self.cluster.confirm_deletions()
            self.cluster.run_pods()
        self.rig.settle()
        for subject in SUBJECTS:
            self.check(subject, self.newest(subject))

    def check(self, subject: str, newest: CommandIssued | None) -> None:
        found = {object_id.name: document for object_id, document in self.cluster.of_subject(subject).items()}
        if newest is None or newest.action == "withdraw":
            assert found == {}
            return
        wanted = {item.manifest["metadata"]["name"]: item.manifest for item in newest.objects}
        nodes = {binding.name: binding.node for group in newest.pods for binding in group.bindings}
        assert found.keys() == wanted.keys() | nodes.keys()
        for name, manifest in wanted.items():
            for field in ("spec", "data"):
                assert found[name].get(field) == manifest.get(field)
        for name, node in nodes.items():
            assert found[name]["spec"]["nodeName"] == node
            assert found[name]["spec"]["containers"] == newest.pods[0].manifest["spec"]["containers"]
        last = [report for report in self.rig.reports if report.subject == subject][-1]
        assert (last.outcome, last.generation) == ("applied", newest.generation)

    def newest(self, subject: str) -> CommandIssued | None:
        """The newest command by the rule of the log: by epoch, then by generation."""
        admitted: CommandIssued | None = None
        for name, issued in self.topic:
            if name == subject and issued is not None:
                fence = Fence(admitted.epoch, admitted.generation) if admitted else OPEN
                if fence.admits(Fence(issued.epoch, issued.generation)):
                    admitted = issued
        return admitted

    def owned(self) -> list[ObjectId]:
        return sorted(object_id for subject in SUBJECTS for object_id in self.cluster.of_subject(subject))


class Watched(ModelCluster):
    """A cluster that notes every write whose generation or epoch is below what the same subject's objects carry.

    Pods go with a grace period, and a binding that nobody answered for may be carried out later.
    """

    def __init__(self) -> None:
        super().__init__()
        self.graceful = True
        self.unanswered: list[Bind] = []
        self.violations: list[str] = []
        self._written: dict[str, Fence] = {}

    def answer(self, call: Call) -> Any:
        annotations: dict[str, str] = {}
        if isinstance(call, Apply):
            annotations = call.body["metadata"]["annotations"]
        elif isinstance(call, Stamp):
            annotations = call.annotations
        if annotations:
            fence = _carried(annotations)
            known = self._written.get(call.subject, OPEN).raised_by(self._carried(call.subject))
            if not known.admits(fence):
                self.violations.append(f"{call.subject}: {fence} behind {known}")
            self._written[call.subject] = known.raised_by(fence)
        answer = super().answer(call)
        if isinstance(call, Bind) and isinstance(answer, CallFailed) and not answer.code:
            self.unanswered.append(call)
        return answer

    def bind_late(self) -> None:
        if self.unanswered:
            self._bind(self.unanswered.pop(0))

    def on_nodes(self) -> Counter[str]:
        """How many pods take room on each node."""
        return Counter(
            document["spec"].get("nodeName")
            for object_id, document in self.objects.items()
            if object_id.kind.kind == "Pod"
            and document["spec"].get("nodeName")
            and document.get("status", {}).get("phase") != "Failed"
        )

    def restarted(self) -> None:
        """What a process knew is lost; what the cluster's objects carry is not."""
        self._written.clear()
        self.unanswered.clear()

    def _carried(self, subject: str) -> Fence:
        fence = OPEN
        for document in self.of_subject(subject).values():
            fence = fence.raised_by(_carried(document["metadata"]["annotations"]))
        return fence


def _carried(annotations: Mapping[str, str | None]) -> Fence:
    """The newest command that an object's annotations name."""
    made_for = (annotations.get(EPOCH_ANNOTATION), annotations.get(GENERATION_ANNOTATION))
    stamped = (annotations.get(FENCE_ANNOTATION) or "/").partition("/")[::2]
    return max(Fence(*(int(number or -1) for number in pair)) for pair in (made_for, stamped))


Fleet.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFleet = Fleet.TestCase
