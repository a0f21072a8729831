"""What is different in some clusters: refused, resolved, rendered, and what of it stands in decisions."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.asked.overrides import with_registry
from services.scheduler.decision.asked.rendering import render_commands
from shared.events.registry import decode
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.workloads import PlacementTerms, Workload
from tests.scheduling import World, counts_of, image, placed, workload

Json = dict[str, Any]
EAST = {"clusterSelector": {"matchLabels": {"region": "east"}}}
OVERRIDES = "workload.placement.overrides"


def shop(*overrides: Json, replicas: int = 2, pod_sets: tuple[Json, ...] = (), **placement: Any) -> Json:
    sets = pod_sets or (image(replicas=replicas),)
    return workload("shop", *sets, placement={"overrides": list(overrides), **placement})


def objects(decision: WorkloadPlaced) -> dict[str, Json]:
    """The only object of each cluster."""
    return {command.cluster: command.objects[0].manifest for command in render_commands(decision, 1, 1)}


def container(manifest: Json) -> Json:
    return dict(manifest["spec"]["template"]["spec"]["containers"][0])


def errors_of(document: Json) -> list[tuple[str, str]]:
    _, errors = plan_workload(Workload.model_validate(document), "nvidia.com/gpu")
    return [(error.field, error.reason) for error in errors]


def claims() -> Json:
    template = {"spec": {"containers": [{"name": "c", "image": "i"}]}, "metadata": {"labels": {"app": "db"}}}
    spec = {"selector": {"matchLabels": {"app": "db"}}, "serviceName": "db", "template": template}
    storage = [{"metadata": {"name": "data"}, "spec": {"storageClassName": "standard"}}]
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {**spec, "volumeClaimTemplates": storage}}


def two_clusters() -> World:
    """As the fixture."""
    other = World()
    for cluster in ("east", "west"):
        other.cluster(cluster, {"region": cluster})
        for number in range(3):
            other.node(cluster, f"{cluster}-{number}", labels={"kubernetes.io/hostname": f"{cluster}-{number}"})
    return other


def test_each_field_changes_its_part_where_it_applies_and_nowhere_else(world: World) -> None:
    override = {
        "name": "eu",
        **EAST,
        "imageRegistry": "registry.eu:5000/mirror",
        "command": ["/bin/serve"],
        "args": ["--region", "eu"],
        "labels": {"tier": "eu"},
        "annotations": {"note": "x"},
        "patches": [{"op": "add", "path": "/spec/template/spec/priorityClassName", "value": "low"}],
    }
    decision = placed(world.apply(shop(override)))
    assert {share.cluster: share.overrides for share in decision.pod_sets[0].shares} == {"east": ("eu",), "west": ()}
    rendered = objects(decision)
    east, west = rendered["east"], rendered["west"]
    assert {name: container(east)[name] for name in ("image", "command", "args")} == {
        "image": "registry.eu:5000/mirror/nginx",
        "command": ["/bin/serve"],
        "args": ["--region", "eu"],
    }
    for metadata in (east["metadata"], east["spec"]["template"]["metadata"]):
        assert metadata["labels"]["tier"] == "eu"
        assert metadata["annotations"] == {"note": "x"}
    assert east["spec"]["template"]["spec"]["priorityClassName"] == "low"
    plain = objects(placed(two_clusters().apply(shop())))["west"]
    assert west == plain


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("nginx", "mirror/nginx"),
        ("library/nginx:1", "mirror/library/nginx:1"),
        ("docker.io/library/nginx", "mirror/library/nginx"),
        ("localhost/a@sha256:0", "mirror/a@sha256:0"),
        ("host:5000/a/b:1", "mirror/a/b:1"),
    ],
)
def test_an_images_registry_is_its_first_part_if_it_looks_like_one(reference: str, expected: str) -> None:
    assert with_registry(reference, "mirror") == expected


def test_storage_classes_of_claims_and_of_templates(world: World) -> None:
    pvc = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"storageClassName": "standard"}}
    sets = ({"name": "db", "manifest": claims()}, {"name": "own", "manifest": pvc})
    override = {"name": "fast", "storageClass": "nvme.fast"}
    decision = placed(world.apply(shop(override, pod_sets=sets)))
    found = [item.manifest for command in render_commands(decision, 1, 1) for item in command.objects]
    classes = {
        manifest["kind"]: manifest["spec"].get("storageClassName")
        or manifest["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"]
        for manifest in found
    }
    assert classes == {"StatefulSet": "nvme.fast", "PersistentVolumeClaim": "nvme.fast"}


def test_overrides_apply_in_their_order(world: World) -> None:
    first = {"name": "all", "args": ["a"], "labels": {"tier": "x"}}
    second = {"name": "east", "clusters": ["east"], "args": ["b"]}
    rendered = objects(placed(world.apply(shop(first, second))))
    assert (container(rendered["east"])["args"], container(rendered["west"])["args"]) == (["b"], ["a"])
    assert rendered["east"]["metadata"]["labels"]["tier"] == "x"


def test_bound_pods_are_overridden_too(world: World) -> None:
    decision = placed(world.apply(shop({"name": "e", **EAST, "args": ["x"]}, binding="node")))
    groups = {command.cluster: command.pods[0].manifest for command in render_commands(decision, 1, 1)}
    assert groups["east"]["spec"]["containers"][0]["args"] == ["x"]
    assert "args" not in groups["west"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ({"patches": [{"op": "replace", "path": "/spec/strategy/type", "value": "Recreate"}]}, "patches.0.path"),
        ({"patches": [{"op": "remove", "path": "/spec/template/spec/containers/3"}]}, "patches.0.path"),
        ({"patches": [{"op": "add", "path": "/kind/x", "value": 1}]}, "patches.0.path"),
        ({"patches": [{"op": "test", "path": "/kind", "value": "Job"}]}, "patches.0.value"),
        ({"patches": [{"op": "replace", "path": "/kind", "value": "DaemonSet"}]}, "patches"),
        ({"patches": [{"op": "replace", "path": "/metadata/name", "value": "other"}]}, "patches"),
        ({"patches": [{"op": "add", "path": "/spec/replicas", "value": 9}]}, "patches"),
        ({"patches": [{"op": "add", "path": "/spec/template/spec/nodeName", "value": "n"}]}, "patches"),
        ({"patches": [{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"a": "b"}}]}, "patches"),
        ({"patches": [{"op": "remove", "path": "/spec/template/spec/containers"}]}, "patches"),
        ({"patches": [{"op": "remove", "path": "/spec/template/spec/containers/0/resources"}]}, "patches"),
        ({"patches": [{"op": "remove", "path": "/metadata/labels"}]}, "patches"),
        ({"patches": [{"op": "add", "path": "/spec/x", "value": 2**70}]}, "patches.0.value"),
        ({"args": ["x"], "container": "sidecar"}, "container"),
    ],
)
def test_what_cannot_be_applied_is_refused_with_its_field(override: Json, field: str) -> None:
    document = shop({"name": "fine"}, {"name": "x", **override})
    assert errors_of(document) == [(f"{OVERRIDES}.1.{field}", "Contradiction")]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"podSets": ["db"]}, "placement.overrides.0.podSets: there is no pod set 'db'"),
        ({"labels": {"flotilla.dev/pod-set": "x"}}, "labels: flotilla.dev/pod-set"),
        ({"patches": [{"op": "add", "path": "/a"}]}, "value must be given for op add"),
        ({"patches": [{"op": "remove", "path": "/a", "value": 1}]}, "value must not be given for op remove"),
        ({"patches": [{"op": "copy", "path": "/a", "value": 1}]}, "'add', 'remove', 'replace' or 'test'"),
        ({"patches": [{"op": "add", "path": "a~2", "value": 1}]}, "patches.0.path"),
        ({"clusterSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "values must be given"),
    ],
)
def test_what_is_malformed_is_named(override: Json, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Workload.model_validate(shop({"name": "x", **override}))


def test_a_name_twice() -> None:
    with pytest.raises(ValueError, match=r"overrides\.1\.name 'x' is used twice"):
        Workload.model_validate(shop({"name": "x"}, {"name": "x"}))


REMOVES: Json = {"name": "removes", **EAST, "patches": [{"op": "remove", "path": "/metadata/labels/tier"}]}
REPLACES: Json = {"name": "replaces", "patches": [{"op": "replace", "path": "/metadata/labels/tier", "value": "x"}]}


class TestConflicts:
    """Each can be applied by itself, both together cannot."""

    def document(self, **more: Any) -> Json:
        return {**shop(REMOVES, REPLACES, **more), "labels": {"tier": "front"}}

    def test_keep_the_pod_set_away(self, world: World) -> None:
        decision = placed(world.apply(self.document()))
        assert counts_of(decision) == {"west": 2}
        assert objects(decision)["west"]["metadata"]["labels"]["tier"] == "x"

    def test_are_told_where_nothing_else_is_left(self, world: World) -> None:
        outcome = placed(world.apply(self.document(clusters=["east"]))).pod_sets[0]
        assert (outcome.placed, outcome.reason) == (0, "OverridesConflict")
        assert "east: replaces.patches.0.path: replace /metadata/labels/tier" in outcome.message

    def test_that_come_with_a_label_move_what_is_there(self, world: World) -> None:
        world.cluster("east", {"region": "elsewhere"})
        assert counts_of(placed(world.apply(self.document()))) == {"east": 1, "west": 1}
        world.cluster("east", {"region": "east"})
        assert counts_of(placed(world.pending())) == {"west": 2}


class TestDecisions:
    def test_a_label_that_changes_on_a_cluster_changes_what_it_is_told(self, world: World) -> None:
        override = {"name": "eu", "clusterSelector": {"matchLabels": {"continent": "eu"}}, "args": ["eu"]}
        before = placed(world.apply(shop(override)))
        world.state.declare_cluster("west", ClusterDeclared(name="west", labels={"continent": "eu"}))
        after = placed(world.pending())
        assert counts_of(after) == counts_of(before)
        assert container(objects(after)["west"])["args"] == ["eu"]
        assert world.pending() == []

    def test_what_applied_in_a_cluster_that_is_not_heard_of_applies_still(self, world: World) -> None:
        override = {"name": "eu", **EAST, "args": ["eu"]}
        world.apply(shop(override))
        # A new leader that has read the journal, and of the clusters only west.
        other = World()
        other.cluster("west", {"region": "west"})
        for decision in world.journal:
            other.state.apply(decision)
        after = placed(other.apply({**shop(override), "labels": {"x": "y"}}, "apply", "later"))
        assert {share.cluster: share.overrides for share in after.pod_sets[0].shares} == {"east": ("eu",), "west": ()}

    def test_another_override_is_another_digest_and_moves_nothing(self, world: World) -> None:
        one = placed(world.apply(shop({"name": "eu", **EAST, "args": ["1"]})))
        two = placed(world.apply(shop({"name": "eu", **EAST, "args": ["2"]})))
        assert one.pod_sets == two.pod_sets
        digests = [{c.cluster: c.digest for c in render_commands(item, 1, 1)} for item in (one, two)]
        assert digests[0]["east"] != digests[1]["east"]
        assert digests[0]["west"] == digests[1]["west"]

    def test_the_journal_alone_gives_the_commands(self, world: World) -> None:
        """What is read back knows no cluster, and renders the same; a standby comes to the same state."""
        decision = placed(world.apply(shop({"name": "eu", **EAST, "args": ["1"]})))
        read = decode(WorkloadPlaced, decision.to_json())
        assert read == decision
        assert render_commands(read, 1, 7) == render_commands(decision, 1, 7)
        standby = two_clusters()
        standby.state.apply(read)
        assert standby.state.hash() == world.state.hash()

    def test_what_no_longer_can_be_applied_is_said_on_the_object(self, world: World) -> None:
        """Not to happen: the leader's publisher must not stop for it all the same."""
        decision = placed(world.apply(shop({"name": "eu", **EAST, "args": ["1"]})))
        override = {"name": "eu", "patches": [{"op": "remove", "path": "/spec/nothing"}], "args": ["1"]}
        broken = Workload.model_validate(shop(override))
        rendered = objects(decision.model_copy(update={"workload": broken}))
        assert rendered["east"]["metadata"]["annotations"]["flotilla.dev/override-failed"].startswith("eu.patches.0")
        assert "annotations" not in rendered["west"]["metadata"]


def test_terms_without_policies_have_the_bytes_that_they_had() -> None:
    assert PlacementTerms().to_json() == b'{"binding":"cluster","clusters":[],"nodeSelector":{},"tolerations":[]}'
    world = World()
    world.cluster("east")
    world.node("east", "n0")
    share = placed(world.apply(workload("shop"))).pod_sets[0].shares[0]
    assert share.to_json() == b'{"cluster":"east","replicas":1,"nodes":["n0"],"ordinals":[]}'
