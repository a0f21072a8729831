"""The watcher's machine: from what happens in one cluster to what `fleet.objects` must say of it.

The mirror knows every key that the log holds for its cluster: those that it published itself and those that earlier
incarnations left behind. From that follows the watcher's promise, that reading the log from the start ends with exactly
the objects that exist:

- an object is published when it appears or its version changes, and not again for a list that only repeats it;
- what is known and no longer there becomes a tombstone: when its deletion is seen, when a complete list does not name
  it, when its resource is no longer served or watched, and when the cluster leaves;
- a list is bracketed by sync markers, the tombstones of what vanished standing before the second;
- what an audit finds to be otherwise, in the cluster or in the log, is published anew.

Sequence numbers are given here, so the records must be sent in the order of the instructions. A mirror is one
incarnation: after a failure to publish it is thrown away, and a new one begins with a larger epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from services.watcher.decision.auditing import Audits
from services.watcher.decision.heartbeat import Condition, Pulse
from services.watcher.decision.instructions import Publish
from services.watcher.decision.nodes import NodeTotals
from services.watcher.decision.resources import ResourceMirror, resource_prefix
from services.watcher.decision.stimuli import (
    AuditClosed,
    ChangesArrived,
    ClusterDescribed,
    ClusterLeft,
    HeartbeatDue,
    ResourcesChosen,
    ServerProbed,
    Step,
    UsageMeasured,
)
from services.watcher.decision.truncation import only_metadata
from shared.events.states import object_name, state_name
from shared.events.topics import CLUSTER_OBSERVED, OBJECT_DELETED_TYPE, OBJECT_OBSERVED, SYNC_MARKED
from shared.events.v1.objects import LEFT, SyncMarked
from shared.kernel.machine import Stimulus
from shared.model.digests import digest_of
from shared.model.identities import ObjectKey, Resource, heartbeat_key, is_object_key, sync_marker_key

NODES: Final = Resource("", "v1", "nodes")
# On an object that was too large for the log: only its type and metadata were published.
TRUNCATED_ANNOTATION: Final = "flotilla.dev/truncated"
MAX_VALUE_BYTES: Final = 3_500_000


class ClusterMirror:
    """`inherited` are all keys of this cluster that the log holds a value for, of whatever kind."""

    def __init__(
        self,
        cluster: str,
        epoch: int,
        interval_ms: int,
        *,
        labels: Mapping[str, str] | None = None,
        inherited: Iterable[str] = (),
        max_value_bytes: int = MAX_VALUE_BYTES,
    ) -> None:
        self.cluster = cluster
        self.epoch = epoch
        self._seq = 0
        self._max_value_bytes = max_value_bytes
        self._nodes = NodeTotals()
        self._pulse = Pulse(cluster, epoch, interval_ms, dict(labels or {}))
        self._resources: dict[Resource, ResourceMirror] = {}
        self.audits = Audits(self._resources)
        self._inherited: dict[Resource, list[str]] = {}
        self._markers: set[str] = set()
        for key in inherited:
            self._inherit(key)

    @property
    def objects(self) -> dict[Resource, int]:
        """How many objects of each watched resource the log holds."""
        return {resource: len(mirror.known) for resource, mirror in self._resources.items()}

    def keys(self) -> set[str]:
        """Every key that the log may hold a value for, if all that was decided so far was sent."""
        mirrors = self._resources.values()
        found = {f"{mirror.prefix}{name}" for mirror in mirrors for name in mirror.known}
        for resource, names in self._inherited.items():
            found.update(f"{resource_prefix(self.cluster, resource)}{name}" for name in names)
        return found | self._markers | {heartbeat_key(self.cluster)}

    def handle(self, stimulus: Stimulus) -> Sequence[Publish]:
        out: list[Publish] = []
        match stimulus:
            case ChangesArrived():
                self._changes(stimulus, out)
            case ResourcesChosen():
                self._choose(stimulus, out)
            case ServerProbed():
                self._pulse.probed(stimulus)
            case UsageMeasured():
                self._pulse.measured(stimulus)
            case ClusterDescribed():
                self._pulse.declared_labels = dict(stimulus.labels)
            case HeartbeatDue():
                self._heartbeat(stimulus, out)
            case ClusterLeft():
                self._leave(stimulus, out)
            case _:
                self._audit(stimulus, out)
        if not isinstance(stimulus, HeartbeatDue | ClusterLeft) and self._has_become_ready(stimulus.at_ms):
            # Whoever waits for this cluster should not wait for the next beat as well.
            self._heartbeat(stimulus, out)
        return out

    # Which resources

    def _inherit(self, key: str) -> None:
        if key == heartbeat_key(self.cluster):
            return
        try:
            parsed = ObjectKey.parse(key) if is_object_key(key) else None
        except ValueError:
            parsed = None
        if parsed is None:
            # Markers, and what no watcher wrote: either is kept for a resource that is watched, or buried.
            self._markers.add(key)
        else:
            self._inherited.setdefault(parsed.resource, []).append(object_name(parsed.namespace, parsed.name))

    def _choose(self, stimulus: ResourcesChosen, out: list[Publish]) -> None:
        for resource in sorted(stimulus.resources - self._resources.keys()):
            self._resources[resource] = ResourceMirror(self.cluster, resource, self._inherited.pop(resource, ()))
        for resource in sorted((self._resources.keys() | self._inherited.keys()) - stimulus.resources):
            self._drop(stimulus, resource, out)
        kept = {sync_marker_key(self.cluster, resource) for resource in self._resources}
        self._unmark(stimulus, self._markers - kept, out)

    def _drop(self, stimulus: Stimulus, resource: Resource, out: list[Publish]) -> None:
        """What nobody watches cannot be vouched for: its objects leave the log."""
        mirror = self._resources.pop(resource, None) or ResourceMirror(
            self.cluster, resource, self._inherited.pop(resource, ())
        )
        self._bury(stimulus, mirror, list(mirror.known), out)

    # What happens to objects

    def _changes(self, stimulus: ChangesArrived, out: list[Publish]) -> None:
        mirror = self._resources.get(stimulus.resource)
        if mirror is None:
            return
        for change in stimulus.changes:
            match change.type:
                case "MODIFIED" | "LISTED" | "ADDED":
                    self._put(stimulus, mirror, change, out)
                case "DELETED":
                    self._delete(stimulus, mirror, change, out)
                case "SYNC_STARTED":
                    mirror.start_list(stimulus.at_ms)
                    self._mark(stimulus, mirror, change.resource_version, "started", out)
                case "SYNC_FINISHED":
                    self._bury(stimulus, mirror, mirror.finish_list(), out)
                    self._mark(stimulus, mirror, change.resource_version, "finished", out)
                case "INTERRUPTED":
                    self._interrupt(stimulus, mirror, change, out)
                case "RESUMED":
                    mirror.trouble = None
        if stimulus.changes:
            mirror.advance(stimulus.changes[-1].resource_version)

    def _put(self, stimulus: Stimulus, mirror: ResourceMirror, change: Step, out: list[Publish]) -> None:
        name = object_name(change.namespace, change.name)
        version = state_name(change.uid, change.resource_version)
        if mirror.listed is not None:
            mirror.listed.add(name)
        if mirror.known.get(name) == version:
            return
        mirror.known[name] = version
        if mirror.resource == NODES:
            self._nodes.put(change.name, change.raw)
        value = change.raw
        if len(value) > self._max_value_bytes:
            value = only_metadata(value, TRUNCATED_ANNOTATION)
        self._publish(stimulus, OBJECT_OBSERVED.ce_type, mirror.key(name), value, out)

    def _delete(self, stimulus: Stimulus, mirror: ResourceMirror, change: Step, out: list[Publish]) -> None:
        name = object_name(change.namespace, change.name)
        if mirror.listed is not None:
            mirror.listed.discard(name)
        if mirror.deleted is not None:
            mirror.deleted[name] = change.resource_version
        if mirror.known.pop(name, None) is not None:
            self._bury(stimulus, mirror, [name], out)

    def _interrupt(self, stimulus: Stimulus, mirror: ResourceMirror, change: Step, out: list[Publish]) -> None:
        if change.error is not None:
            mirror.interrupt(stimulus.at_ms, change.error)
        if not mirror.is_absent or self._denies_everything():
            return
        if mirror.known or not mirror.synced:
            self._mark(stimulus, mirror, "", "started", out)
            mirror.listed = set()
            self._bury(stimulus, mirror, mirror.finish_list(), out)
            self._mark(stimulus, mirror, "", "finished", out)
        mirror.trouble = None

    def _denies_everything(self) -> bool:
        """Whether the server says that it has no core resources either: then it is no API server, or the wrong path."""
        return any(not m.resource.group and m.missing for m in self._resources.values())

    def _bury(self, stimulus: Stimulus, mirror: ResourceMirror, names: Iterable[str], out: list[Publish]) -> None:
        for name in names:
            if mirror.resource == NODES:
                self._nodes.remove(name.partition("/")[2])
            self._publish(stimulus, OBJECT_DELETED_TYPE, mirror.key(name), None, out)

    def _audit(self, stimulus: Stimulus, out: list[Publish]) -> None:
        if isinstance(stimulus, AuditClosed):
            self._pulse.audited = self.audits.close(stimulus.at_ms)
            if self._pulse.audited.unlike:
                # Said at once: the next audit may end before the next beat.
                self._heartbeat(stimulus, out)
            return
        finding = self.audits.take(stimulus)
        if finding is None:
            return
        for step in finding.found:
            self._put(stimulus, finding.mirror, step, out)
        for name in finding.gone:
            finding.mirror.known.pop(name, None)
        self._bury(stimulus, finding.mirror, finding.gone, out)
        if finding.complete:
            self._mark(stimulus, finding.mirror, finding.mirror.position, "finished", out)

    # Markers and heartbeats

    def _mark(self, stimulus: Stimulus, mirror: ResourceMirror, version: str, phase: str, out: list[Publish]) -> None:
        marker = SyncMarked(
            cluster=self.cluster,
            resource=str(mirror.resource),
            phase="finished" if phase == "finished" else "started",
            epoch=self.epoch,
            resource_version=version,
            objects=len(mirror.known) if phase == "finished" else None,
            digest=digest_of(mirror.known).text if phase == "finished" else "",
        )
        key = sync_marker_key(self.cluster, mirror.resource)
        self._markers.add(key)
        self._publish(stimulus, SYNC_MARKED.ce_type, key.encode(), marker.to_json(), out)

    def _unmark(self, stimulus: Stimulus, keys: Iterable[str], out: list[Publish]) -> None:
        for key in sorted(keys):
            self._markers.discard(key)
            self._publish(stimulus, OBJECT_DELETED_TYPE, key.encode(), None, out)

    def _has_become_ready(self, at_ms: int) -> bool:
        return self._pulse.reported_ready is False and self._pulse.condition(at_ms, self._resources.values()).ready

    def _heartbeat(self, stimulus: Stimulus, out: list[Publish], condition: Condition | None = None) -> None:
        condition = condition or self._pulse.condition(stimulus.at_ms, self._resources.values())
        beat = self._pulse.beat(stimulus.at_ms, condition, self._nodes)
        key = heartbeat_key(self.cluster).encode()
        self._publish(stimulus, CLUSTER_OBSERVED.ce_type, key, beat.to_json(), out)

    def _leave(self, stimulus: Stimulus, out: list[Publish]) -> None:
        """First who listens hears that the cluster is not to be used, then everything of it goes."""
        self._heartbeat(stimulus, out, Condition(ready=False, reason=LEFT, message="the cluster left the fleet"))
        for resource in sorted(self._resources.keys() | self._inherited.keys()):
            self._drop(stimulus, resource, out)
        self._unmark(stimulus, set(self._markers), out)
        self._publish(stimulus, OBJECT_DELETED_TYPE, heartbeat_key(self.cluster).encode(), None, out)

    def _publish(self, stimulus: Stimulus, ce_type: str, key: bytes, value: bytes | None, out: list[Publish]) -> None:
        out.append(Publish(cause=stimulus.id, ce_type=ce_type, key=key, value=value, seq=self._seq))
        self._seq += 1
