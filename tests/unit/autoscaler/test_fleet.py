"""What the records of the fleet come to, as plans of node groups see it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from services.autoscaler.decision.nodes.fleet import NOT_HEARD, FleetSeen, Sized
from services.autoscaler.decision.nodes.growing import grow
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.nodes.seen import (
    ANNOTATED,
    BY_VOLUME,
    EXPECTED,
    LOCAL_STORAGE,
    UNKNOWN,
    UNOWNED,
    GroupKey,
    Limits,
    Node,
    Seen,
)
from services.autoscaler.decision.nodes.stock import Stock
from shared.events.registry import DecodeError, decode
from shared.events.v1.clusters import ClusterDeclared, HeadRoom
from shared.events.v1.decisions import ContainerRequested, Requested, WorkloadPlaced
from shared.events.v1.objects import ClusterObserved
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL, ObjectKey
from shared.ports.event_log import NewRecord
from tests.node_groups import (
    CLUSTER,
    Json,
    declared,
    group_json,
    heartbeat,
    node_at,
    node_json,
    object_at,
    placement,
    pod_at,
    running_pod,
    workload_json,
)

NOW = 1_800_000_000_000
SMALL = GroupKey(CLUSTER, "small")
OURS = {WORKLOAD_LABEL: "web", WORKLOAD_NAMESPACE_LABEL: "default", POD_SET_LABEL: "main"}


class Fleet:
    def __init__(self, *groups: Json) -> None:
        self.fleet = FleetSeen(SchedulerConfig(), provision_ms=1000)
        beat = heartbeat(NOW)
        self.fleet.hear(CLUSTER, decode(ClusterObserved, beat.value), NOW)
        self.fleet.declare(CLUSTER, decode(ClusterDeclared, declared(*groups or (group_json(),)).value))

    def put(self, *records: NewRecord, at_ms: int = NOW) -> None:
        for record in records:
            assert record.key is not None
            self.fleet.observe(ObjectKey.parse(record.key.decode()), record.value, at_ms)

    def place(self, placed: WorkloadPlaced | None) -> None:
        self.fleet.place("default/web", placed)

    def seen(self, *, coming: bool = True, removing: tuple[str, ...] = (), after_ms: int = 0) -> Seen:
        there = self.fleet.there()
        sized = {key: Sized(len(names) - len(removing), frozenset(removing)) for key, names in there.items()}
        return self.fleet.seen(sized, NOW + after_ms, coming=coming)

    def node(self, **look: Any) -> Node:
        (node,) = self.seen(**look).nodes
        return node


def test_what_the_scheduler_could_not_place_waits_though_there_is_no_pod_of_it() -> None:
    fleet = Fleet()
    fleet.place(placement(workload_json(replicas=3), desired=3))
    assert fleet.fleet.changed == 2
    (pod_set,) = fleet.seen().pending
    assert (pod_set.key, pod_set.count, pod_set.desired) == ("default/web/main", 3, 3)
    assert grow(fleet.seen(), Policy(), SchedulerConfig(), Stock(), NOW).sizes == {SMALL: 1}
    # One that is placed waits no more, and nobody has to be told of that.
    fleet.place(placement(workload_json(replicas=3), desired=3, shares={CLUSTER: ["n0", "n0", "n0"]}))
    assert (fleet.seen().pending, fleet.fleet.changed) == ((), 2)


def test_what_waits_asks_for_what_was_decided_and_not_for_what_is_stated() -> None:
    fleet, document = Fleet(), workload_json(cpu="4", replicas=1)
    placed = placement({**document, "vertical": {"updatePolicy": {"updateMode": "Recreate"}}}, desired=1)
    requested = Requested(containers=(ContainerRequested(name="main", requests={"cpu": 300}),), position="t/0/1")
    pod_sets = tuple(item.model_copy(update={"requested": requested}) for item in placed.pod_sets)
    fleet.place(placed.model_copy(update={"pod_sets": pod_sets}))
    (pod_set,) = fleet.seen().pending
    assert dict(pod_set.demand.shape.requests)["cpu"] == 300


def with_terms(**terms: Json) -> Fleet:
    fleet = Fleet()
    document = orjson.loads(declared(group_json()).value or b"{}")
    fleet.fleet.declare(CLUSTER, ClusterDeclared.model_validate(document | terms))
    return fleet


def test_head_room_is_an_amount_or_a_part_of_what_pods_request() -> None:
    fleet = with_terms(headRoom={"cpu": "150%", "memory": "10Gi", "pods": 2})
    fleet.put(node_at("n0", node_json()), *(pod_at(f"p{n}", running_pod("n0", cpu="1")) for n in range(4)))
    (wanted,) = fleet.seen().head_room
    requests = dict(wanted.demand.shape.requests)
    # Six cores, 10 GiB and two pods: a core each.
    assert (wanted.key, wanted.count, wanted.demand.clusters) == (f"{CLUSTER}/head-room", 6, (CLUSTER,))
    assert (requests["cpu"], requests["pods"]) == (1000, 1)
    assert requests["memory"] * 6 >= 10 << 30
    assert fleet.seen(coming=False).head_room == (wanted,)


@pytest.mark.parametrize("nothing", [{}, {"cpu": "0"}, {"cpu": "20%"}])
def test_no_head_room_where_nothing_is_to_be_spare(nothing: Json) -> None:
    assert with_terms(headRoom=nothing).seen().head_room == ()


def test_head_room_of_the_fleet_is_that_of_clusters_with_groups_that_have_none() -> None:
    fleet = Fleet()
    fleet.fleet = FleetSeen(SchedulerConfig(), 1000, HeadRoom(pods="3"))
    fleet.fleet.hear(CLUSTER, decode(ClusterObserved, heartbeat(NOW).value), NOW)
    fleet.fleet.declare(CLUSTER, ClusterDeclared(name=CLUSTER))
    assert fleet.seen().head_room == ()
    document = orjson.loads(declared(group_json()).value or b"{}")
    before = fleet.fleet.changed
    fleet.fleet.declare(CLUSTER, ClusterDeclared.model_validate(document))
    assert [item.count for item in fleet.seen().head_room] == [3]
    fleet.fleet.declare(CLUSTER, ClusterDeclared.model_validate(document | {"headRoom": {"pods": 5}}))
    assert [item.count for item in fleet.seen().head_room] == [5]
    assert fleet.fleet.changed == before + 2
    # Of who is not heard nobody knows what is there.
    assert fleet.seen(after_ms=10**9).head_room == ()


def test_limits_of_a_cluster() -> None:
    fleet = with_terms(nodeLimits={"nodes": 3, "cpu": "8", "memory": "16Gi", "pricePerHour": 2.5})
    (cluster,) = fleet.seen().clusters
    assert cluster.limits == Limits(nodes=3, price_per_hour=2.5, amounts={"cpu": 8000, "memory": 16 << 30})
    assert Fleet().seen().clusters[0].limits == Limits()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("headRoom", {"cpu": "-1"}),
        ("headRoom", {"cpu": "2000%"}),
        ("headRoom", {"memory": "some%"}),
        ("headRoom", {"disk": "1"}),
        ("nodeLimits", {"nodes": -1}),
        ("nodeLimits", {"cpu": "much"}),
    ],
)
def test_terms_of_a_cluster_that_are_none(field: str, value: Json) -> None:
    with pytest.raises(ValueError, match=field):
        ClusterDeclared.model_validate({"name": CLUSTER, field: value})


@pytest.mark.parametrize("reason", ["OverBudget", "QueueLimit", "AwaitingWithdrawal", "Placing"])
def test_who_waits_for_something_else_needs_no_node(reason: str) -> None:
    fleet = Fleet()
    fleet.place(placement(workload_json(replicas=3), desired=3, reason=reason))
    assert fleet.seen().pending == ()


def test_a_placed_replica_holds_its_room_until_its_pod_is_there() -> None:
    fleet = Fleet()
    fleet.put(node_at("n0", node_json()))
    fleet.place(placement(workload_json(replicas=2), desired=2, shares={CLUSTER: ["n0", "n0"]}))
    assert [pod.pinned for pod in fleet.node().pods] == [EXPECTED] * 2
    fleet.put(pod_at("web-0", running_pod("n0", metadata={"labels": OURS})))
    assert sorted(pod.pinned for pod in fleet.node().pods) == ["", EXPECTED]
    # One for which its cluster finds no node is there, and waits: it does not count twice.
    fleet.put(pod_at("web-1", running_pod(waits=True, metadata={"labels": OURS})))
    assert [pod.pinned for pod in fleet.node().pods] == [""]
    assert [item.count for item in fleet.seen().pending] == [1]
    # What left a node that goes is expected anywhere but there.
    fleet.put(pod_at("web-1", None), pod_at("web-0", None))
    assert len(fleet.node().pods) == 2
    assert fleet.node(removing=("n0",)).pods == ()
    fleet.place(None)
    assert fleet.node().pods == ()


def test_pods_for_which_a_cluster_has_no_node_wait_whoever_made_them() -> None:
    fleet = Fleet()
    fleet.put(*(pod_at(f"p{n}", running_pod(waits=True)) for n in range(2)))
    fleet.put(pod_at("big", running_pod(waits=True, cpu="2")))
    assert sorted((item.key, item.count) for item in fleet.seen().pending) == [
        (f"{CLUSTER}/default/ReplicaSet/web", 1),
        (f"{CLUSTER}/default/ReplicaSet/web", 2),
    ]
    assert all(item.demand.clusters == (CLUSTER,) for item in fleet.seen().pending)
    changed = fleet.fleet.changed
    # One that has just been made, one that goes, and one that goes with its node need none.
    fleet.put(pod_at("new", running_pod()))
    fleet.put(pod_at("going", running_pod(waits=True, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})))
    fleet.put(pod_at("daemon", running_pod(waits=True, owner="DaemonSet")))
    assert (sum(item.count for item in fleet.seen().pending), fleet.fleet.changed) == (3, changed)
    fleet.put(*(pod_at(name, None) for name in ("p0", "p1", "big")))
    assert fleet.seen().pending == ()


@pytest.mark.parametrize(
    ("document", "pinned"),
    [
        (running_pod("n0"), ""),
        (running_pod("n0", owner=""), UNOWNED),
        (running_pod("n0", volumes=[{"name": "a", "emptyDir": {}}]), LOCAL_STORAGE),
        (running_pod("n0", volumes=[{"name": "a", "hostPath": {"path": "/"}}]), LOCAL_STORAGE),
        (running_pod("n0", volumes=[{"name": "a", "emptyDir": {"medium": "Memory"}}]), ""),
        (running_pod("n0", volumes=[{"name": "a", "persistentVolumeClaim": {"claimName": "a"}}]), BY_VOLUME),
        (running_pod("n0", metadata={"annotations": {"karpenter.sh/do-not-disrupt": "true"}}), ANNOTATED),
        (
            running_pod("n0", metadata={"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}),
            ANNOTATED,
        ),
        (
            running_pod(
                "n0",
                owner="",
                volumes=[{"name": "a", "emptyDir": {}}],
                metadata={"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}},
            ),
            "",
        ),
        (running_pod("n0", tolerations=[{"key": "a", "operator": "Gt", "value": "3"}]), UNKNOWN),
    ],
)
def test_what_may_not_be_evicted(document: Json, pinned: str) -> None:
    fleet = Fleet()
    fleet.put(node_at("n0", node_json()), pod_at("p", document))
    assert [pod.pinned for pod in fleet.node().pods] == [pinned]


def test_what_pods_ask_of_nodes_and_of_each_other_is_read() -> None:
    fleet = Fleet()
    apart = {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}
            ]
        }
    }
    metadata = {"labels": {"app": "x"}}
    fleet.put(*(pod_at(f"p{n}", running_pod(waits=True, affinity=apart, metadata=metadata)) for n in range(3)))
    # None of them goes beside another.
    assert grow(fleet.seen(), Policy(), SchedulerConfig(), Stock(), NOW).sizes == {SMALL: 3}
    fleet.put(pod_at("picky", running_pod(waits=True, nodeSelector={"disk": "ssd"})))
    found = grow(fleet.seen(), Policy(), SchedulerConfig(), Stock(), NOW)
    assert (found.sizes, len(found.unplaced)) == ({SMALL: 3}, 1)


def test_a_node_that_begins_is_one_that_comes() -> None:
    fleet = Fleet()
    booting = node_json(ready=False)
    booting["spec"] = {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}
    fleet.put(node_at("n0", booting))
    assert (fleet.node().ready, fleet.node().taints) == (True, ())
    assert not fleet.node(coming=False).ready
    assert not fleet.node(after_ms=1000).ready
    # One that was ready and is so no more is broken.
    fleet.put(node_at("n0", node_json()), node_at("n0", booting))
    assert not fleet.node().ready


@pytest.mark.parametrize("key", ["node.kubernetes.io/not-ready", "node.cloudprovider.kubernetes.io/uninitialized"])
def test_a_node_that_says_it_is_ready_begins_until_controllers_let_pods_there(key: str) -> None:
    fleet = Fleet()
    tainted = node_json()
    tainted["spec"] = {"taints": [{"key": key, "effect": "NoSchedule"}]}
    fleet.put(node_at("n0", node_json(ready=False)), node_at("n0", tainted))
    assert (fleet.node().ready, fleet.node().taints) == (True, ())
    assert [taint.key for taint in fleet.node(after_ms=1000).taints] == [key]
    # After that it is a taint as any other.
    fleet.put(node_at("n0", node_json()), node_at("n0", tainted))
    assert [taint.key for taint in fleet.node().taints] == [key]


def test_daemon_sets_take_of_a_new_node_what_they_take_of_others() -> None:
    fleet = Fleet()
    fleet.put(node_at("n0", node_json()), pod_at("d", running_pod("n0", cpu="1", owner="DaemonSet")))
    (group,) = fleet.seen().groups
    assert (group.template.allocatable["cpu"], group.template.allocatable["pods"]) == (3000, 109)
    assert [pod.daemon for pod in fleet.node().pods] == [True]


def test_budgets_count_where_nodes_are_to_go() -> None:
    fleet = Fleet()
    labels = {"labels": {"app": "x"}}
    budget = {
        "spec": {"selector": {"matchLabels": {"app": "x"}}},
        "status": {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1},
    }
    fleet.put(
        node_at("n0", node_json()), pod_at("p", running_pod("n0", metadata=labels)), pod_at("q", running_pod("n0"))
    )
    fleet.put(object_at("policy/v1/poddisruptionbudgets/default/b", budget))
    key = f"{CLUSTER}/default/b"
    assert fleet.seen(coming=False).budgets == {key: 1}
    assert [pod.budgets for pod in fleet.node(coming=False).pods] == [(key,), ()]


def test_of_a_cluster_that_is_not_heard_nothing_goes_and_nothing_comes() -> None:
    fleet = Fleet()
    fleet.put(node_at("n0", node_json()))
    assert fleet.fleet.open_clusters(NOW) == {CLUSTER}
    fleet.fleet.hear(CLUSTER, decode(ClusterObserved, heartbeat(NOW, ready=False).value), NOW)
    assert (fleet.node().kept, fleet.seen().clusters[0].open, fleet.fleet.open_clusters(NOW)) == (
        NOT_HEARD,
        False,
        frozenset(),
    )


def test_what_an_owner_keeps_is_kept_and_what_is_removed_takes_no_pods() -> None:
    fleet = Fleet()
    annotations = {"cluster-autoscaler.kubernetes.io/scale-down-disabled": "true"}
    fleet.put(node_at("n0", node_json(annotations=annotations)))
    assert fleet.node().kept
    assert [group.size for group in fleet.seen(removing=("n0",)).groups] == [1]
    assert fleet.node(removing=("n0",)).unschedulable
    fleet.put(node_at("n0", None))
    assert fleet.seen().nodes == ()


def test_what_cannot_be_read_changes_nothing() -> None:
    fleet = Fleet()
    fleet.put(pod_at("p", running_pod(waits=True)))
    for raw in (b"{", b'{"spec": {"containers": [{"resources": {"requests": {"cpu": "much"}}}]}}'):
        with pytest.raises(DecodeError):
            fleet.fleet.observe(ObjectKey.parse(f"{CLUSTER}/core/v1/pods/default/p"), raw, NOW)
    assert [item.count for item in fleet.seen().pending] == [1]
    ended = orjson.loads(orjson.dumps(running_pod("n0"))) | {"status": {"phase": "Succeeded"}}
    fleet.put(pod_at("p", ended))
    assert fleet.seen().pending == ()


def test_equal_pods_have_one_demand() -> None:
    fleet = Fleet()
    volume = {"name": "kube-api-access-x", "projected": {}}
    fleet.put(node_at("n0", node_json()))
    for number in range(2):
        document = running_pod("n0", volumes=[volume | {"name": f"kube-api-access-{number}"}])
        fleet.put(pod_at(f"p{number}", document))
    first, second = fleet.node().pods
    assert first.demand is second.demand
    assert replace(first, key=second.key) == second
