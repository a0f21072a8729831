"""Whatever users, other writers and crashes do: in the end both sides agree, and then nothing more happens."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.hub.decision.resources import ORIGIN_LABEL, ORIGIN_TOPIC
from services.hub.decision.views import deletion_id
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from shared.events.v1.workloads import ApplyWorkload, PodSet, Workload
from shared.model.identities import WorkloadKey
from tests.unit.hub.world import World, cluster, heartbeat, placed_by, status_of, workload

NAMES = st.sampled_from(["a", "b"])
IMAGES = st.sampled_from(["nginx", "redis"])
SPECS: st.SearchStrategy[dict[str, Any]] = IMAGES.map(lambda image: {"podSets": [{"name": "app", "image": image}]})
BAD_SPEC: dict[str, Any] = {"podSets": [{"name": "app"}]}
CLUSTER_SPECS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.just({"unschedulable": True}),
    IMAGES.map(lambda image: {"workloads": [{"name": "app", "image": image}]}),
)
SPACE = "default"


class Fleet:
    """Scheduler and status service: they take requests in the order of the log, some time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._done = 0
        self._uids = 0

    def catch_up(self) -> bool:
        """Whether there was anything to do."""
        requests = self.world.requests[self._done :]
        for request in requests:
            self._take(request.key, WorkloadRequested.model_validate_json(request.body), request.request_id)
        self._done += len(requests)
        return bool(requests)

    def _take(self, key: WorkloadKey, requested: WorkloadRequested, request_id: str) -> None:
        present = self.world.placements.get(key)
        body = requested.root
        if isinstance(body, ApplyWorkload):
            self.apply(body.workload, request_id)
        elif present is not None:
            self.world.delete_in_fleet(key, request_id)
        else:
            self.world.refuse(next(r for r in self.world.requests if r.request_id == request_id))
            self.world.place(key, None)

    def apply(self, wanted: Workload, request_id: str) -> None:
        before = self.world.placements.get(wanted.key)
        if before is None:
            self._uids += 1
        uid = before.placement.uid if before and before.placement else f"fleet-{self._uids}"
        placed = placed_by(wanted, request_id, uid=uid)
        published = PlacementPublished(epoch=1, generation=1, decided_at=self.world.now_ms, placement=placed)
        self.world.place(wanted.key, published)
        status = status_of(wanted.key, Phase.RUNNING, request_id=request_id, ready=1, desired=1, clusters=["west"])
        self.world.report(wanted.key, status)


class Session(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.fleet = Fleet(self.world)
        self.foreign = 0

    # Users

    @rule(name=NAMES, spec=SPECS | st.just(BAD_SPEC))
    def create_or_change_a_workload(self, name: str, spec: dict[str, Any]) -> None:
        found = self.world.hub.objects.get(("workloads", SPACE, name))
        if found is None:
            self.world.hub.create("workloads", workload(name, spec=spec), SPACE)
        elif "deletionTimestamp" not in found["metadata"]:
            self.world.hub.update("workloads", name, SPACE, spec=spec)

    @rule(name=NAMES, text=st.sampled_from(["x", "y"]))
    def label_a_workload(self, name: str, text: str) -> None:
        found = self.world.hub.objects.get(("workloads", SPACE, name))
        if found is not None:
            labels = found["metadata"].get("labels", {}) | {"text": text}
            self.world.hub.update("workloads", name, SPACE, labels=labels)

    @rule(name=NAMES)
    def delete_a_workload(self, name: str) -> None:
        if ("workloads", SPACE, name) in self.world.hub.objects:
            self.world.hub.delete("workloads", name, SPACE)

    @rule(name=NAMES, spec=CLUSTER_SPECS)
    def create_or_change_a_cluster(self, name: str, spec: dict[str, Any]) -> None:
        if ("clusters", "", name) in self.world.hub.objects:
            self.world.hub.update("clusters", name, spec=spec)
        else:
            self.world.hub.create("clusters", cluster(name, spec=spec))

    @rule(name=NAMES)
    def delete_a_cluster(self, name: str) -> None:
        if ("clusters", "", name) in self.world.hub.objects:
            self.world.hub.delete("clusters", name)

    # Others

    @rule(name=NAMES, image=IMAGES)
    def request_through_the_topic(self, name: str, image: str) -> None:
        self.foreign += 1
        wanted = Workload(namespace=SPACE, name=name, pod_sets=(PodSet(name="app", image=image),))
        self.fleet.apply(wanted, f"foreign-{self.foreign}")

    @rule(name=NAMES)
    def delete_through_the_topic(self, name: str) -> None:
        key = WorkloadKey(SPACE, name)
        if key in self.world.placements:
            self.foreign += 1
            self.world.delete_in_fleet(key, f"foreign-{self.foreign}")

    @rule(name=NAMES)
    def hear_a_cluster(self, name: str) -> None:
        self.world.beat(name, heartbeat(name, at_ms=self.world.now_ms))

    # Time and crashes

    @rule()
    def the_fleet_catches_up(self) -> None:
        self.fleet.catch_up()

    @rule(seconds=st.sampled_from([1, 7, 40]))
    def time_passes(self, seconds: int) -> None:
        self.world.wait(seconds)

    @rule()
    def the_hub_restarts(self) -> None:
        self.world.start()

    @precondition(lambda self: self.world.hub.events)
    @rule()
    def the_watch_brings_what_is_new(self) -> None:
        self.world.settle()

    @invariant()
    def nobody_asks_on_behalf_of_a_mirror(self) -> None:
        mirrors = {
            document["metadata"]["uid"]
            for document in self.world.hub.objects.values()
            if document["metadata"].get("labels", {}).get(ORIGIN_LABEL) == ORIGIN_TOPIC
        }
        for request in self.world.requests:
            uid = request.request_id.partition(".")[0]
            assert uid not in mirrors or request.request_id == deletion_id(uid)

    def teardown(self) -> None:
        for _ in range(20):
            self.world.wait(60)
            if not self.fleet.catch_up():
                break
        else:
            raise AssertionError(f"asks for ever: {[r.request_id for r in self.world.requests[-6:]]}")
        self._both_sides_agree()
        self._nothing_happens_any_more()

    def _both_sides_agree(self) -> None:
        world = self.world
        shown = {WorkloadKey(ns, name) for plural, ns, name in world.hub.objects if plural == "workloads"}
        assert world.placements.keys() <= shown, "whatever the fleet has is seen"
        for (plural, _, name), document in world.hub.objects.items():
            assert "deletionTimestamp" not in document["metadata"], name
            if plural == "workloads":
                self._agrees(WorkloadKey(SPACE, name), document)
        declared = {
            name
            for (plural, _, name), document in world.hub.objects.items()
            if plural == "clusters" and (document.get("spec") or not document["metadata"].get("labels"))
        }
        assert world.declared.keys() == declared
        self._owners_agree()

    def _owners_agree(self) -> None:
        """A Cluster has the Workload that it describes, or somebody else's has its name; nothing has a dead owner."""
        for (plural, _, name), document in self.world.hub.objects.items():
            found = self.world.hub.objects.get(("clusters", "", name))
            owners = document["metadata"].get("ownerReferences", [])
            if plural == "workloads" and owners:
                assert found is not None
                assert owners[0]["uid"] == found["metadata"]["uid"]
                assert document["spec"]["podSets"] == found["spec"]["workloads"]
            if plural == "clusters" and document.get("spec", {}).get("workloads"):
                assert ("workloads", SPACE, name) in self.world.hub.objects

    def _agrees(self, key: WorkloadKey, document: dict[str, Any]) -> None:
        published = self.world.placements.get(key)
        synced = next((c for c in document["status"]["conditions"] if c["type"] == "Synced"), None)
        assert synced is not None
        if synced["reason"] == "Accepted":
            assert published is not None
            assert published.placement is not None
            images = [pod_set.image for pod_set in published.placement.workload.pod_sets]
            assert images == [pod_set.get("image") for pod_set in document["spec"]["podSets"]]
        else:
            assert synced["reason"] in {"Invalid", "ChangedElsewhere", "DeletedElsewhere"}

    def _nothing_happens_any_more(self) -> None:
        requests, writes = len(self.world.requests), len(self.world.hub.writes)
        declarations = len(self.world.declarations)
        self.world.wait(600)
        self.world.start()
        self.world.wait(600)
        assert len(self.world.requests) == requests
        assert len(self.world.declarations) == declarations
        assert self.world.hub.writes[writes:] == []


TestSession = Session.TestCase
TestSession.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
