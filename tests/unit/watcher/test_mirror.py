"""What the watcher publishes for what happens, decided without a log and without a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest

from services.watcher.decision.heartbeat import GRACE_MS
from services.watcher.decision.instructions import Publish
from services.watcher.decision.mirror import TRUNCATED_ANNOTATION, ClusterMirror
from services.watcher.decision.stimuli import (
    ChangesArrived,
    ClusterDescribed,
    ClusterLeft,
    HeartbeatDue,
    ResourcesChosen,
    ServerProbed,
    UsageMeasured,
)
from shared.model.digests import digest_of
from shared.model.identities import Resource
from shared.ports.cluster_api import ApiError, Change, ChangeType

PODS = Resource("", "v1", "pods")
NODES = Resource("", "v1", "nodes")
WIDGETS = Resource("example.com", "v1", "widgets")
EPOCH = 1000
START_MS = 50_000


class Watcher:
    """A mirror with a clock; every method returns what is to be published."""

    def __init__(self, *resources: Resource, inherited: Sequence[str] = (), **options: Any) -> None:
        self.mirror = ClusterMirror("west", EPOCH, 5000, inherited=inherited, **options)
        self.now = START_MS
        self._ids = count()
        self.published: list[Publish] = []
        self.choose(*resources)

    def _handle(self, kind: type[Any], **fields: Any) -> list[Publish]:
        out = list(self.mirror.handle(kind(id=str(next(self._ids)), at_ms=self.now, **fields)))
        self.published += out
        return out

    def choose(self, *resources: Resource) -> list[Publish]:
        return self._handle(ResourcesChosen, resources=frozenset(resources))

    def changes(self, resource: Resource, *changes: Change) -> list[Publish]:
        return self._handle(ChangesArrived, resource=resource, changes=changes)

    def synced(self, resource: Resource, *listed: Change) -> list[Publish]:
        return self.changes(resource, marker("SYNC_STARTED"), *listed, marker("SYNC_FINISHED", "9"))

    def probed(self, version: str = "v1.36.3", error: str = "") -> list[Publish]:
        return self._handle(ServerProbed, version=version, error=error)

    def described(self, **labels: str) -> list[Publish]:
        return self._handle(ClusterDescribed, labels=labels)

    def measured(self, cpu: int | None, memory: int | None) -> list[Publish]:
        return self._handle(UsageMeasured, cpu=cpu, memory=memory)

    def left(self) -> list[Publish]:
        return self._handle(ClusterLeft)

    def beat(self, later_ms: int = 0) -> dict[str, Any]:
        self.now += later_ms
        (beat,) = self._handle(HeartbeatDue)
        assert (beat.key, beat.ce_type) == (b"west/-/heartbeat", "fleet.cluster.observed.v1")
        body: dict[str, Any] = json.loads(beat.value or b"")
        return body


def marker(kind: str, version: str = "") -> Change:
    return Change(ChangeType(kind), version)


def pod(kind: str, name: str, version: str, namespace: str = "shop", uid: str = "u", **spec: Any) -> Change:
    meta = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": version}
    raw = json.dumps({"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec}).encode()
    return Change(ChangeType(kind), version, namespace, name, raw, uid)


def broken(code: int, reason: str = "Some", message: str = "thing") -> Change:
    return Change(ChangeType.INTERRUPTED, "", error=ApiError(code, reason, message))


def told(published: Sequence[Publish]) -> list[str]:
    """Short: `+key` for a value, `-key` for a tombstone, `[resource` and `resource]` for markers."""
    out = []
    for item in published:
        key = item.key.decode().removeprefix("west/")
        if item.ce_type == "fleet.sync.marked.v1":
            body = json.loads(item.value or b"")
            name = body["resource"]
            out.append(f"[{name}" if body["phase"] == "started" else f"{name}]")
        else:
            out.append(("-" if item.value is None else "+") + key)
    return out


def test_a_list_is_bracketed_and_ends_with_tombstones_of_what_vanished() -> None:
    watcher = Watcher(PODS, inherited=["west/core/v1/pods/shop/old", "west/core/v1/pods/shop/a"])

    published = watcher.synced(PODS, pod("LISTED", "a", "1"), pod("LISTED", "b", "2"))

    assert told(published) == [
        "[v1/pods",
        "+core/v1/pods/shop/a",
        "+core/v1/pods/shop/b",
        "-core/v1/pods/shop/old",
        "v1/pods]",
    ]
    assert json.loads(published[-1].value or b"") == {
        "cluster": "west",
        "resource": "v1/pods",
        "phase": "finished",
        "epoch": EPOCH,
        "resourceVersion": "9",
        "objects": 2,
        "digest": digest_of({"shop/a": "u/1", "shop/b": "u/2"}).text,
    }
    assert published[3].ce_type == "fleet.object.deleted.v1"


def test_a_second_list_publishes_what_changed_only() -> None:
    watcher = Watcher(PODS)
    watcher.synced(PODS, pod("LISTED", "a", "1"), pod("LISTED", "b", "2"), pod("LISTED", "c", "3"))

    published = watcher.synced(PODS, pod("LISTED", "a", "1"), pod("LISTED", "b", "5"))

    assert told(published) == ["[v1/pods", "+core/v1/pods/shop/b", "-core/v1/pods/shop/c", "v1/pods]"]


def test_an_object_of_the_same_name_and_version_but_another_uid_is_another_object() -> None:
    """A cluster that was rebuilt counts its versions from the start."""
    watcher = Watcher(PODS)
    watcher.synced(PODS, pod("LISTED", "a", "1", uid="first"))

    published = watcher.synced(PODS, pod("LISTED", "a", "1", uid="second"))

    assert "+core/v1/pods/shop/a" in told(published)


def test_a_list_that_begins_again_forgets_what_the_broken_one_named() -> None:
    watcher = Watcher(PODS)
    watcher.synced(PODS, pod("LISTED", "a", "1"), pod("LISTED", "b", "2"))
    watcher.changes(PODS, marker("SYNC_STARTED"), pod("LISTED", "a", "1"), pod("LISTED", "b", "2"))

    published = watcher.synced(PODS, pod("LISTED", "a", "1"))

    assert told(published) == ["[v1/pods", "-core/v1/pods/shop/b", "v1/pods]"]


def test_what_is_deleted_during_a_streamed_list_is_gone_after_it() -> None:
    watcher = Watcher(PODS)
    published = watcher.synced(PODS, pod("LISTED", "a", "1"), pod("DELETED", "a", "2"))
    assert told(published) == ["[v1/pods", "+core/v1/pods/shop/a", "-core/v1/pods/shop/a", "v1/pods]"]


def test_events_that_come_twice_are_published_once() -> None:
    watcher = Watcher(PODS)
    watcher.synced(PODS)
    once = watcher.changes(PODS, pod("ADDED", "a", "1"), pod("MODIFIED", "a", "2"), pod("DELETED", "a", "3"))
    again = watcher.changes(PODS, pod("DELETED", "a", "3"), marker("BOOKMARK", "7"))

    assert told(once) == ["+core/v1/pods/shop/a", "+core/v1/pods/shop/a", "-core/v1/pods/shop/a"]
    assert again == []


def test_sequence_numbers_are_contiguous_over_everything() -> None:
    watcher = Watcher(PODS, NODES, inherited=["west/core/v1/services/shop/s"])
    watcher.beat()
    watcher.synced(PODS, pod("LISTED", "a", "1"))
    watcher.synced(NODES)
    watcher.probed()
    watcher.left()

    assert [item.seq for item in watcher.published] == list(range(len(watcher.published)))
    assert len(watcher.published) > 10


def test_a_cluster_scoped_object_has_a_dash_as_namespace() -> None:
    watcher = Watcher(NODES)
    published = watcher.synced(NODES, pod("LISTED", "n1", "1", namespace=""))
    assert told(published)[1] == "+core/v1/nodes/-/n1"


def test_an_object_that_is_too_large_is_published_without_its_body() -> None:
    watcher = Watcher(PODS, max_value_bytes=1000)
    published = watcher.synced(PODS, pod("LISTED", "a", "1", data="x" * 2000))
    body = json.loads(published[1].value or b"")
    assert body["metadata"]["annotations"] == {TRUNCATED_ANNOTATION: "true"}
    assert "spec" not in body


# Resources that come and go


def test_a_resource_that_nobody_watches_any_longer_leaves_the_log() -> None:
    watcher = Watcher(PODS, WIDGETS)
    watcher.synced(PODS, pod("LISTED", "a", "1"))
    watcher.synced(WIDGETS, pod("LISTED", "w", "2"))

    assert told(watcher.choose(PODS)) == ["-example.com/v1/widgets/shop/w", "--/sync/example.com/v1/widgets"]
    assert watcher.changes(WIDGETS, pod("ADDED", "late", "3")) == []


def test_what_an_earlier_incarnation_watched_and_this_one_does_not_leaves_the_log() -> None:
    left_behind = ["west/core/v1/services/shop/s", "west/-/sync/v1/services", "west/-/sync/v1/pods", "west/garbage"]
    watcher = Watcher(PODS, inherited=[*left_behind, "west/-/heartbeat"])

    assert told(watcher.published) == ["-core/v1/services/shop/s", "--/sync/v1/services", "-garbage"]


def test_a_resource_that_is_not_served_has_no_objects_once_it_is_certain() -> None:
    watcher = Watcher(PODS, WIDGETS, inherited=["west/example.com/v1/widgets/shop/w"])
    watcher.synced(PODS)

    assert watcher.changes(WIDGETS, broken(404)) == []
    published = watcher.changes(WIDGETS, broken(404))
    assert told(published) == ["[example.com/v1/widgets", "-example.com/v1/widgets/shop/w", "example.com/v1/widgets]"]
    assert watcher.changes(WIDGETS, broken(404)) == []
    watcher.probed()
    assert watcher.beat(60_000)["ready"]


def test_a_server_that_denies_pods_is_not_believed() -> None:
    watcher = Watcher(PODS, WIDGETS, inherited=["west/core/v1/pods/shop/a", "west/example.com/v1/widgets/shop/w"])
    for _ in range(5):
        assert watcher.changes(PODS, broken(404)) == []
        assert watcher.changes(WIDGETS, broken(404)) == []
    watcher.probed()
    assert not watcher.beat(60_000)["ready"]


def test_errors_between_two_denials_do_not_add_up() -> None:
    watcher = Watcher(WIDGETS, inherited=["west/example.com/v1/widgets/shop/w"])
    for _ in range(5):
        assert watcher.changes(WIDGETS, broken(404), broken(503)) == []


# Heartbeats


def test_a_cluster_is_ready_when_the_server_answers_and_all_is_in_sync() -> None:
    watcher = Watcher(PODS, NODES)
    first = watcher.beat()
    assert (first["ready"], first["reason"]) == (False, "ApiUnreachable")
    watcher.probed()
    assert watcher.beat()["reason"] == "Syncing"
    watcher.synced(PODS)
    (*_, beat) = watcher.synced(NODES)  # at once, not with the next beat
    body = json.loads(beat.value or b"")
    assert (body["ready"], body["epoch"], body["intervalMs"], body["kubernetesVersion"]) == (
        True,
        EPOCH,
        5000,
        "v1.36.3",
    )
    assert beat.seq == watcher.published[-2].seq + 1


@pytest.fixture
def ready() -> Watcher:
    watcher = Watcher(PODS)
    watcher.probed()
    watcher.synced(PODS)
    assert watcher.beat()["ready"]
    return watcher


def test_a_short_interruption_makes_no_cluster_unready(ready: Watcher) -> None:
    ready.changes(PODS, broken(0, "Unreachable"))
    assert ready.beat(GRACE_MS - 1)["ready"]
    ready.changes(PODS, Change(ChangeType.RESUMED, "9"))
    assert ready.beat(60_000)["ready"]


def test_a_long_interruption_does_and_says_why(ready: Watcher) -> None:
    ready.changes(PODS, broken(0, "Unreachable", "connection refused"))
    ready.now += 2000
    ready.changes(PODS, broken(403, "Forbidden", "no rights"))
    body = ready.beat(2000)
    assert (body["ready"], body["reason"], body["message"]) == (False, "Forbidden", "v1/pods: no rights")

    (back,) = ready.changes(PODS, Change(ChangeType.RESUMED, "9"))
    assert json.loads(back.value or b"")["ready"]


def test_a_server_that_does_not_answer_makes_the_cluster_unready(ready: Watcher) -> None:
    ready.probed("", "no answer within 4 s")
    assert ready.beat(1000)["ready"]
    ready.probed("", "no answer within 4 s")
    body = ready.beat(GRACE_MS)
    assert (body["ready"], body["reason"], body["message"]) == (False, "ApiUnreachable", "no answer within 4 s")


def test_labels_of_people_outdo_those_of_settings_and_nodes() -> None:
    watcher = Watcher(NODES, labels={"topology.kubernetes.io/region": "settings", "tier": "one"})
    meta = {"name": "n", "resourceVersion": "1", "labels": {"topology.kubernetes.io/region": "node", "a": "b"}}
    meta["labels"] = {"topology.kubernetes.io/region": "node", "flotilla.dev/provider": "metal"}
    raw = json.dumps({"kind": "Node", "apiVersion": "v1", "metadata": meta}).encode()
    watcher.synced(NODES, Change(ChangeType.LISTED, "1", "", "n", raw, "u"))
    watcher.described(tier="two")

    assert watcher.beat()["labels"] == {
        "topology.kubernetes.io/region": "settings",
        "flotilla.dev/provider": "metal",
        "tier": "two",
    }


def test_measured_use_comes_and_goes(ready: Watcher) -> None:
    ready.measured(1500, 3 * 1024**3)
    assert ready.beat()["usage"] == {"cpu": "1500m", "memory": "3Gi"}
    ready.measured(None, None)
    assert ready.beat()["usage"] == {}


def test_a_cluster_that_left_leaves_nothing_behind() -> None:
    watcher = Watcher(PODS, inherited=["west/core/v1/pods/shop/old", "west/-/heartbeat"])
    watcher.beat()
    watcher.synced(PODS, pod("LISTED", "a", "1"))

    published = watcher.left()

    last = {item.key: item.value for item in watcher.published}
    assert all(value is None for value in last.values())
    goodbye = json.loads(published[0].value or b"")
    assert (goodbye["ready"], goodbye["reason"]) == (False, "Left")
    assert published[-1].key == b"west/-/heartbeat"


def test_keys_name_all_that_the_log_may_hold() -> None:
    watcher = Watcher(PODS, inherited=["west/core/v1/pods/shop/old"])
    watcher.changes(PODS, marker("SYNC_STARTED"), pod("LISTED", "a", "1"))

    assert watcher.mirror.keys() == {
        "west/core/v1/pods/shop/old",
        "west/core/v1/pods/shop/a",
        "west/-/sync/v1/pods",
        "west/-/heartbeat",
    }
