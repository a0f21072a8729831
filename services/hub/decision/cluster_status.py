"""The status of a Cluster resource, from the newest heartbeat of its watcher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.hub.decision.conditions import ConditionWriter, format_seconds
from services.hub.decision.provisioning import PROVISIONED_CONDITION, Said
from services.hub.decision.resources import (
    ClusterSpec,
    ClusterStatusView,
    ClusterSummary,
    ConditionView,
    WorkloadCounts,
)
from services.hub.decision.state import Pulse
from services.hub.decision.views import ClusterView, Json, Refusal, WorkloadView
from shared.events.v1.objects import ClusterObserved, ObjectsAudited
from shared.model.identities import PROVIDER_LABEL, REGION_LABEL
from shared.model.quantities import QuantityError, parse_quantity

READY = "Ready"
JOINED = "Joined"
DECLARED = "Declared"
OBJECTS_CONSISTENT = "ObjectsConsistent"
WORKLOADS_APPLIED = "WorkloadsApplied"


@dataclass(frozen=True, slots=True)
class Apply:
    """How it stands with the Workload of a Cluster: there, in conflict with another's, or waiting."""

    workload: WorkloadView | None = None
    conflict: str = ""
    waits: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """How far making or ending it has come: conditions, and in a word. Nothing of one that is there by itself."""

    said: tuple[Said, ...] = ()
    word: str = ""


def status_of(
    view: ClusterView,
    pulse: Pulse | None,
    apply: Apply,
    counts: tuple[int, int],
    made: Made,
    now_ms: int,
    *,
    alive: bool,
) -> Json:
    """The wanted status; `counts` are the cluster's workloads, all and running."""
    writer = ConditionWriter(view.status.get("conditions") or (), view.meta.generation, now_ms)
    heartbeat = pulse.heartbeat if pulse is not None else None
    groups, word = _node_groups(view), made.word or None
    conditions = [
        *_membership(view.meta.name, heartbeat, made.said, writer, alive=alive),
        *_declaration(view, apply, writer),
        *(writer.make(item.kind, item.status, item.reason, item.message) for item in made.said),
    ]
    shown = groups or word
    known: dict[str, Any] = {"summary": ClusterSummary(node_groups=groups, provision=word)} if shown else {}
    if pulse is not None and heartbeat is not None:
        known = {
            "version": heartbeat.kubernetes_version or None,
            "provider": heartbeat.labels.get(PROVIDER_LABEL),
            "region": heartbeat.labels.get(REGION_LABEL),
            "nodes": heartbeat.nodes,
            "nodes_ready": heartbeat.nodes_ready,
            "capacity": heartbeat.capacity or None,
            "allocatable": heartbeat.allocatable or None,
            "usage": heartbeat.usage or None,
            "last_heartbeat": format_seconds(pulse.seen_ms),
            "summary": _summary(heartbeat, groups, word),
        }
    total, running = counts
    status = ClusterStatusView(
        observed_generation=view.meta.generation,
        workloads=WorkloadCounts(total=total, running=running),
        conditions=tuple(conditions),
        **known,
    )
    document: Json = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return document


def _membership(
    name: str, heartbeat: ClusterObserved | None, said: Sequence[Said], writer: ConditionWriter, *, alive: bool
) -> Iterator[ConditionView]:
    coming = next((item for item in said if item.kind == PROVISIONED_CONDITION and item.status != "True"), None)
    if heartbeat is None and coming is not None:
        yield writer.make(READY, "False", coming.reason, coming.message)
        yield writer.make(JOINED, "False", "NotProvisioned", "there is no cluster yet that agents could join")
        return
    if heartbeat is None:
        message = (
            f"no agents have joined under this name: run a watcher with FLOTILLA_WATCHER_CLUSTER={name} "
            f"and an executor with FLOTILLA_EXECUTOR_CLUSTER={name}, with access to that cluster"
        )
        yield writer.make(READY, "False", "NotJoined", "waiting for agents")
        yield writer.make(JOINED, "False", "WaitingForAgents", message)
        return
    if not alive:
        message = f"the last heartbeat was at {format_seconds(heartbeat.observed_at)}"
        yield writer.make(READY, "Unknown", "HeartbeatLost", message)
    elif heartbeat.ready:
        yield writer.make(READY, "True", heartbeat.reason or "AgentReady", heartbeat.message)
    else:
        yield writer.make(READY, "False", heartbeat.reason or "AgentNotReady", heartbeat.message)
    yield writer.make(JOINED, "True", "HeartbeatSeen")
    if heartbeat.audited is not None:
        yield _consistency(heartbeat.audited, writer, alive=alive)


def _consistency(audited: ObjectsAudited, writer: ConditionWriter, *, alive: bool) -> ConditionView:
    """Whether the fleet's log has what the cluster has, as the watcher's last audit found."""
    if not alive:
        return writer.make(OBJECTS_CONSISTENT, "Unknown", "HeartbeatLost")
    if audited.unchecked:
        return writer.make(OBJECTS_CONSISTENT, "Unknown", "NotCompared", ", ".join(audited.unchecked))
    if audited.unlike:
        number = audited.unlike_cluster + audited.unlike_log
        message = f"{number} objects were published again: {', '.join(audited.unlike)}"
        return writer.make(OBJECTS_CONSISTENT, "True", "Repaired", message)
    return writer.make(OBJECTS_CONSISTENT, "True", "Compared")


def _declaration(view: ClusterView, apply: Apply, writer: ConditionWriter) -> Iterator[ConditionView]:
    if isinstance(view.declared, Refusal):
        words = "; ".join(f"{error.field}: {error.message}" for error in view.declared.errors)
        yield writer.make(DECLARED, "False", "Invalid", words)
        return
    spec: ClusterSpec = view.declared
    if view.spec or not view.joined_by_itself:
        yield writer.make(DECLARED, "True", "Published")
    if apply.conflict:
        yield writer.make(WORKLOADS_APPLIED, "False", "NameConflict", apply.conflict)
    elif apply.waits:
        yield writer.make(WORKLOADS_APPLIED, "False", "Waiting", apply.waits)
    elif spec.workloads:
        there = apply.workload is not None and not apply.workload.meta.deleting
        yield writer.make(WORKLOADS_APPLIED, "True" if there else "False", "Applied" if there else "Creating")


def _node_groups(view: ClusterView) -> str | None:
    """Such as `small 0-10, large 1-4`."""
    groups = view.declared.node_groups if isinstance(view.declared, ClusterSpec) else ()
    return ", ".join(f"{group.name} {group.min_size}-{group.max_size}" for group in groups) or None


def _summary(heartbeat: ClusterObserved, node_groups: str | None, provision: str | None) -> ClusterSummary:
    place = [heartbeat.labels.get(PROVIDER_LABEL), heartbeat.labels.get(REGION_LABEL)]
    return ClusterSummary(
        nodes=f"{heartbeat.nodes_ready}/{heartbeat.nodes}",
        cpu=_percent("cpu", heartbeat.usage, heartbeat.allocatable),
        memory=_percent("memory", heartbeat.usage, heartbeat.allocatable),
        location="/".join(part for part in place if part) or None,
        node_groups=node_groups,
        provision=provision,
    )


def _percent(resource: str, usage: Mapping[str, str], allocatable: Mapping[str, str]) -> str | None:
    """None where it was not measured, or where an agent wrote what is no quantity."""
    try:
        used, room = parse_quantity(usage[resource]), parse_quantity(allocatable[resource])
    except (KeyError, QuantityError):
        return None
    return f"{round(used / room * 100)}%" if room > 0 else None
