"""What users make of objects in the hub is asked of the fleet, and what the fleet says of it is shown there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.events.registry import decode
from shared.events.topics import STATUS
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase, WorkloadStatus
from shared.events.v1.workloads import DeleteWorkload, Workload
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.history import Appended

Json = dict[str, Any]
WORKLOADS, CLUSTERS, NODES = "workloads.cluster.k8s.io", "clusters.cluster.k8s.io", "nodes"
_ORIGIN, _FLEET_UID = "flotilla.dev/origin", "flotilla.dev/workload-uid"
_ENDED = frozenset({Phase.DELETED, Phase.REJECTED})


def check(evidence: Evidence) -> Iterator[Violation]:
    if evidence.hub is None:
        return
    evidence.take()
    last = {(append.key or b"").decode(): append for append in evidence.requests}
    said = {key: decode(WorkloadStatus, record.value) for key, record in evidence.latest(STATUS.name).items()}
    objects = {f"{place[1]}/{place[2]}": obj for place, obj in evidence.hub.items() if place[0] == WORKLOADS}
    for key, obj in objects.items():
        if "deletionTimestamp" in obj["metadata"]:
            yield Violation("hub", key, "was deleted, and is held still")
        elif mirrors(obj):
            yield from _mirror(key, obj, evidence.journal.latest.get(key))
        else:
            yield from _asked(key, obj, last.get(key), evidence)
        if key in said and said[key].phase not in _ENDED:
            yield from _status(key, obj, said[key])
    for key, append in last.items():
        if key not in objects and of_the_hub(append) and not isinstance(_body(append), DeleteWorkload):
            yield Violation("hub", key, "is no more, and that was not asked of the fleet")
    for key in evidence.journal.latest.keys() - objects.keys():
        yield Violation("hub", key, "exists, and no object shows it")
    yield from _clusters(evidence)


def mirrors(obj: Json) -> bool:
    """Whether an object shows what was requested past the hub."""
    return (obj["metadata"].get("labels") or {}).get(_ORIGIN) == "topic"


def of_the_hub(append: Appended) -> bool:
    return append.author.startswith("hub-")


def request_id(append: Appended) -> str:
    return dict(append.headers)["ce_id"].decode()


def workload_of(obj: Json) -> Workload:
    """What an object's specification asks for."""
    meta, spec = obj["metadata"], obj["spec"]
    return Workload.model_validate({"namespace": meta["namespace"], "name": meta["name"], **spec})


def _body(append: Appended) -> Any:
    return decode(WorkloadRequested, append.value).root


def _asked(key: str, obj: Json, last: Appended | None, evidence: Evidence) -> Iterator[Violation]:
    """The last request is what the object says now, and `Synced` is what became of it."""
    meta = obj["metadata"]
    wish = f"{meta['uid']}.{meta['generation']}."
    if last is None or not request_id(last).startswith(wish):
        yield Violation("hub", key, f"generation {meta['generation']} was not asked of the fleet")
        return
    if _body(last).workload != workload_of(obj):
        yield Violation("hub", key, "was asked for in another form")
    known = evidence.journal.latest.get(key)
    taken = known is not None and known[1].workload == workload_of(obj)
    status = obj.get("status") or {}
    synced = next((item["status"] for item in status.get("conditions") or () if item["type"] == "Synced"), "")
    if synced != ("True" if taken else "False"):
        yield Violation("hub", key, f"Synced is {synced or 'not there'}, and the request was {taken and 'taken'}")
    if status.get("observedGeneration") != meta["generation"]:
        yield Violation("hub", key, f"generation {status.get('observedGeneration')} is said to be the newest answered")


def _mirror(key: str, obj: Json, known: tuple[int, WorkloadPlaced] | None) -> Iterator[Violation]:
    if known is None:
        yield Violation("hub", key, "is shown, and there is no such workload")
        return
    if (obj["metadata"].get("annotations") or {}).get(_FLEET_UID) != known[1].uid:
        yield Violation("hub", key, "shows an earlier workload of this name")
    if workload_of(obj) != known[1].workload:
        yield Violation("hub", key, "shows another specification than the fleet has")


def _status(key: str, obj: Json, truth: WorkloadStatus) -> Iterator[Violation]:
    status = obj.get("status") or {}
    shown = (status.get("phase"), status.get("readyReplicas", 0), status.get("uid"))
    if shown != (truth.phase, truth.ready, truth.uid):
        yield Violation("hub", key, f"shows {shown}, and is {truth.phase}, {truth.ready}, {truth.uid}")
    parts = {part["cluster"]: (part["ready"], part["applied"]) for part in status.get("clusters") or ()}
    if parts != {part.cluster: (part.counts.ready, part.applied) for part in truth.clusters}:
        yield Violation("hub", key, f"shows {parts} by cluster, which is not what is said of it")


def _clusters(evidence: Evidence) -> Iterator[Violation]:
    """Every cluster is heard in the end, and shown as it is."""
    assert evidence.hub is not None
    shown = {place[2]: obj.get("status") or {} for place, obj in evidence.hub.items() if place[0] == CLUSTERS}
    for name, objects in evidence.objects.items():
        status = shown.pop(name, {})
        ready = next((item["status"] for item in status.get("conditions") or () if item["type"] == "Ready"), "")
        nodes = sum(1 for place in objects if place[0] == NODES)
        if (ready, status.get("nodes")) != ("True", nodes):
            yield Violation("hub", name, f"Ready is {ready or 'not there'} with {status.get('nodes')} of {nodes} nodes")
    for name in shown:
        yield Violation("hub", name, "is shown, and there is no such cluster")
