"""What a plan of node groups says that it was made from is all that it was made from: made again it is the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.nodes.cycle import Terms, plan
from services.autoscaler.decision.nodes.draining import Times
from services.autoscaler.decision.nodes.fleet import FleetSeen
from services.autoscaler.decision.nodes.looks import LooksReader, LooksWriter
from services.autoscaler.decision.nodes.planning import NodePlans
from services.autoscaler.decision.nodes.recorded import Made, changes_orders, config_hash, decided
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import PodFacts, SchedulerConfig
from services.autoscaler.decision.nodes.seen import Cluster, Node, Pod, PodSet, Seen
from services.autoscaler.decision.nodes.telling import command_of
from services.autoscaler.decision.nodes.trail import WatchedFleet
from services.autoscaler.decision.nodes.trial import Trial
from services.autoscaler.decision.vertical.applying import Pace
from services.autoscaler.journal import decision_record
from services.autoscaler.replay.judging import Judge
from shared.events.registry import decode
from shared.events.topics import DECISIONS, NODES_DECIDED
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.node_decisions import NodesDecided
from shared.events.v1.node_groups import PLAN_KEY
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.results import CommandReported, ObjectResult
from shared.kernel.replay import Outcome, Verdict
from shared.model.identities import ObjectKey
from shared.ports.event_log import NewRecord, Record
from tests.node_groups import (
    CLUSTER,
    demand_of,
    group_json,
    heartbeat,
    node_at,
    node_json,
    object_at,
    pod_at,
    pod_sets_of,
    report_at,
    running_pod,
    seen_node,
)
from tests.property.autoscaler.test_trial import FLEETS, plain_workloads
from tests.property.scheduler.fleets import CLUSTERS

Json = dict[str, Any]
NOW = 1_800_000_000_000
CONFIG = SchedulerConfig()
TERMS = Terms(Policy(unneeded_ms=1_000, most_trials=40), CONFIG)
TIMES = Times(provision=4_000, patience=5_000, rest=2_000)
GROUPS = (group_json("small", price=1.0), group_json("large", cpu="8", price=1.5), group_json("least", minSize=1))
APART: Json = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}
        ]
    }
}
BUDGET: Json = {
    "metadata": {"name": "web", "generation": 1},
    "spec": {"selector": {"matchLabels": {"app": "web"}}, "minAvailable": 1},
    "status": {"disruptionsAllowed": 1, "observedGeneration": 1},
}


class Live:
    """An autoscaler without a log, whose plans are all recorded, as the log has them."""

    def __init__(self) -> None:
        self.now = NOW
        self.fleet = FleetSeen(CONFIG, TIMES.provision)
        self.watched = WatchedFleet(self.fleet)
        self.plans = NodePlans(self.watched, TERMS.policy, TIMES)
        self.records: list[Record] = []
        self.changes: list[bool] = []
        self.declare(GROUPS)
        self.fleet.hear(CLUSTER, decode(ClusterObserved, heartbeat(NOW).value), NOW)
        self.plans.begin(NOW)

    def declare(self, groups: tuple[Json, ...], **more: Json) -> None:
        document = {"name": CLUSTER, "nodeGroups": list(groups), **more}
        self.fleet.declare(CLUSTER, ClusterDeclared.model_validate(document))

    def put(self, record: NewRecord) -> None:
        assert record.key is not None
        self.fleet.observe(ObjectKey.parse(record.key.decode()), record.value, self.now)

    def report(self, group: int, **more: Any) -> None:
        known = {item.group.name: item.told for item in self.plans.memory().orders}
        told = known.get(GROUPS[group % len(GROUPS)]["name"])
        if told is not None and told.generation:
            report = decode(CommandReported, report_at(command_of(told), **more).value)
            self.watched.reported(report, self.now)
            self.plans.report(report, self.now)

    def plan(self, *, down: bool, between: Any = None) -> None:
        """`between` happens while a part of the plan is made."""
        before = self.plans.memory()
        self.watched.begin()
        steps, result = plan(self.plans, TERMS, self.now, down=down), None
        while True:
            try:
                work = steps.send(result)
            except StopIteration:
                break
            result = work.make()
            if between is not None:
                self.do(between)
        inputs = {"fleet.results": {0: 7}}
        told = list(self.plans.told(self.now, inputs))
        self.plans.plan_told()
        made = Made("life", self.now, down, before, self.watched.take(), (), told, self.plans.plan, self.plans.memory())
        self.changes.append(changes_orders(made))
        body = decided(made, inputs, config_hash(TERMS, TIMES))
        record = decision_record(NODES_DECIDED, PLAN_KEY, body, self.now)
        offset = len(self.records)
        self.records.append(Record(DECISIONS.name, 0, offset, 0, record.key, record.value, record.headers))

    def do(self, what: tuple[Any, ...]) -> None:
        match what:
            case "waits", number, cpu, apart:
                more: Json = {"affinity": APART} if apart else {}
                document = running_pod(waits=True, cpu=cpu, metadata={"labels": {"app": "web"}}, **more)
                self.put(pod_at(f"p{number}", document))
            case "runs", number, node, owner:
                document = running_pod(f"n{node}", owner=owner, metadata={"labels": {"app": "web"}})
                self.put(pod_at(f"p{number}", document))
            case "ends", number:
                self.put(pod_at(f"p{number}", None))
            case "node", number, group, ready:
                name = GROUPS[group % len(GROUPS)]["name"]
                self.put(node_at(f"n{number}", node_json(name, ready=ready)))
            case "gone", number:
                self.put(node_at(f"n{number}", None))
            case "budget", there:
                self.put(object_at("policy/v1/poddisruptionbudgets/default/web", BUDGET if there else None))
            case "report", group, reason, failed:
                failures = (
                    (ObjectResult(api_version="v1", kind="Node", namespace="", name=f"n{failed}", reason="NotEmptied"),)
                    if failed is not None
                    else ()
                )
                self.report(group, reason=reason, outcome="failed" if reason else "applied", failures=failures)
            case "declare", count, spare:
                terms: Json = {"headRoom": {"cpu": "2", "pods": "10%"}, "nodeLimits": {"nodes": 3}} if spare else {}
                self.declare(GROUPS[:count], **terms)


numbers = st.integers(0, 7)
happenings = st.one_of(
    st.tuples(st.just("waits"), numbers, st.sampled_from(["1", "3", "9"]), st.booleans()),
    st.tuples(st.just("runs"), numbers, st.integers(0, 3), st.sampled_from(["ReplicaSet", "DaemonSet", ""])),
    st.tuples(st.just("ends"), numbers),
    st.tuples(st.just("node"), st.integers(0, 3), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("gone"), st.integers(0, 3)),
    st.tuples(st.just("budget"), st.booleans()),
    st.tuples(
        st.just("report"),
        st.integers(0, 2),
        st.sampled_from(["", "OutOfStock", "ProviderUnavailable"]),
        st.sampled_from([None, 0, 1]),
    ),
    st.tuples(st.just("declare"), st.integers(1, 3), st.booleans()),
)
rounds = st.tuples(
    st.lists(happenings, max_size=5),
    st.sampled_from([100, 1_000, 2_500, 6_000, 61_000]),
    st.booleans(),
    st.one_of(st.none(), happenings),
)


def judged(records: list[Record]) -> list[Verdict]:
    judge = Judge(Defaults(), TERMS, TIMES, Pace())
    return [verdict for record in records for verdict in judge.judge(record)]


# A node that goes is of a group that nobody declares by then.
@example(
    [
        ([("node", 3, 0, True), ("declare", 1, False)], 100, True, None),
        ([], 1_000, True, ("node", 3, 1, False)),
        ([], 100, True, None),
    ]
)
@given(st.lists(rounds, min_size=1, max_size=8))
def test_a_replay_of_any_plan_is_the_same(story: list[Any]) -> None:
    live = Live()
    for happened, after_ms, down, between in story:
        for what in happened:
            live.do(what)
        live.now += after_ms
        live.plan(down=down, between=between)
    verdicts = judged(live.records)
    assert {verdict.outcome for verdict in verdicts} == {Outcome.EQUAL}, verdicts
    # Orders stand in decisions, and in no other plans.
    orders: Counter[str] = Counter()
    for record, changes in zip(live.records, live.changes, strict=True):
        made = decode(NodesDecided, record.value)
        for item in made.groups:
            key = f"{item.cluster}/{item.group}"
            assert changes or item.generation == orders[key]
            orders[key] = item.generation


@given(FLEETS, st.data())
def test_what_was_seen_is_read_as_it_was(fleet: list[tuple[str, Json, int]], data: st.DataObject) -> None:
    documents = [data.draw(plain_workloads(f"w{number}")) for number in range(data.draw(st.integers(1, 4)))]
    waiting = tuple(pod_set for document in documents for pod_set in pod_sets_of(document))
    facts = PodFacts("default", dict, (("app", "web"),))
    seen = []
    for index, (cluster, document, running) in enumerate(fleet):
        pods = [Pod(f"p{index}-{number}", demand_of(500), facts) for number in range(running)]
        seen.append(seen_node(cluster, f"n{index}", document, pods))
    look = Seen(tuple(map(Cluster, CLUSTERS)), (), tuple(seen), waiting, waiting[:1], {"one/default/web": 1})
    writer = LooksWriter()
    written = writer.write(look)
    again = LooksReader(orjson.loads(orjson.dumps(writer.document()))).read(orjson.loads(orjson.dumps(written)))
    assert (again.clusters, again.groups, again.budgets) == (look.clusters, look.groups, look.budgets)
    # Whoever adds a field has to write it, or plans would be made again without.
    assert [len(fields(item)) for item in (Seen, Node, Pod, PodSet)] == [6, 12, 8, 8]
    for one, other in zip((*look.pending, *look.head_room), (*again.pending, *again.head_room), strict=True):
        assert (one.key, one.demand, one.count, one.placed) == (other.key, other.demand, other.count, other.placed)
    for node, same in zip(look.nodes, again.nodes, strict=True):
        assert (node.labels, node.allocatable, node.taints) == (same.labels, same.allocatable, same.taints)
        assert list(node.labels) == list(same.labels)
    places = [[rows.tolist() for rows in Trial(each, CONFIG).place(each.pending)] for each in (look, again)]
    assert places[0] == places[1]
