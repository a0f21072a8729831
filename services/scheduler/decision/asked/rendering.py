"""From a workload's placement to what each cluster is to run. Pure: equal placements give equal commands.

With `binding: cluster`, an image or a template becomes a Deployment of the cluster's replicas; a manifest stays as it
is, but for its replicas where its kind divides. With `binding: node` pods are named `<workload>-<pod set>-<ordinal>`;
what has no pods is an object there too.
Where a decision says what containers request, that stands in place of what the workload states.
Labels that say which workload a pod belongs to are put on every object and every pod template; selectors and
tolerations of the placement terms are merged into every pod spec, so that the cluster's own scheduler keeps them too.
The namespace of a manifest is left to the executor, which knows which kinds have one. Overrides come last: those whose
names stand in the share, and in the terms of the same decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from services.scheduler.decision.asked.labels import identity_of, labels_of
from services.scheduler.decision.asked.manifests import Division, image_pod_spec, kind_for
from services.scheduler.decision.asked.overrides import OverrideError, apply_unchecked
from services.scheduler.decision.asked.requested import as_requested
from shared.events.v1.commands import CommandIssued, ManagedObject, PodBinding, PodGroup
from shared.events.v1.decisions import ClusterShare, WorkloadPlaced
from shared.events.v1.workloads import Binding, Manifest, PodSet, Workload
from shared.model.built import built
from shared.model.identities import OVERRIDE_FAILED_ANNOTATION, SCHEDULER_NAME
from shared.model.pods import GPU_MILLI_ANNOTATION

_managed = built(ManagedObject, ("pod_set", "manifest"))
_command = built(
    CommandIssued,
    (
        *("cluster", "subject", "namespace", "epoch", "generation", "digest"),
        *("request_id", "action", "leased", "objects", "pods"),
    ),
)


def render_commands(placed: WorkloadPlaced, epoch: int, generation: int) -> list[CommandIssued]:
    """One command for each cluster with a share (`run`) or being withdrawn (`withdraw`), in that order."""
    key = placed.workload.key
    workload = as_requested(placed.workload, placed.pod_sets)
    renderer = _Renderer(workload)
    shares: dict[str, list[tuple[PodSet, ClusterShare]]] = {}
    pod_sets = {pod_set.name: pod_set for pod_set in workload.pod_sets}
    # What others need comes before them; all else in the workload's order.
    for placement in sorted(placed.pod_sets, key=lambda item: not item.follows):
        for share in placement.shares:
            shares.setdefault(share.cluster, []).append((pod_sets[placement.name], share))
    run = [(cluster, "run", renderer.content(parts)) for cluster, parts in shares.items()]
    withdraw = [(cluster, "withdraw", _WITHDRAWN) for cluster in placed.withdrawn]
    return [
        _command(
            {
                "cluster": cluster,
                "subject": key.subject,
                "namespace": key.namespace,
                "epoch": epoch,
                "generation": generation,
                "digest": content.digest,
                "request_id": placed.request.id,
                "action": action,
                "leased": action == "run" and placed.workload.placement.leased,
                "objects": content.objects,
                "pods": content.pods,
            }
        )
        for cluster, action, content in (*run, *withdraw)
    ]


def rendered_object(workload: Workload, pod_set: PodSet) -> Manifest:
    """The object of a pod set, or its pod where Flotilla binds, before overrides and without replicas."""
    return _Renderer(workload).rendered(pod_set)


class _Content:
    """Objects and pods of one command. The digest is over canonical JSON: keys sorted, no white space."""

    def __init__(self, action: str, objects: tuple[ManagedObject, ...] = (), pods: tuple[PodGroup, ...] = ()) -> None:
        self.objects = objects
        self.pods = pods
        document = {
            "action": action,
            # As the models are in JSON, without a copy of every manifest.
            "objects": [{"podSet": item.pod_set, "manifest": item.manifest} for item in objects],
            "pods": [item.model_dump(by_alias=True) for item in pods],
        }
        self.digest = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


_WITHDRAWN = _Content("withdraw")


class _Renderer:
    """Renders one workload; clusters with equal shares have one content."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._whole: dict[tuple[str, tuple[str, ...]], Manifest] = {}
        self._contents: dict[tuple[tuple[str, int, tuple[str, ...]], ...], _Content] = {}

    def content(self, parts: list[tuple[PodSet, ClusterShare]]) -> _Content:
        if self._workload.placement.binding is Binding.NODE:
            objects = tuple(self._managed(*part) for part in parts if not self._is_bound(part[0]))
            pods = tuple(self._pod_group(*part) for part in parts if self._is_bound(part[0]))
            return _Content("run", objects, pods)
        key = tuple((pod_set.name, share.replicas, share.overrides) for pod_set, share in parts)
        if key not in self._contents:
            self._contents[key] = _Content("run", tuple(self._managed(*part) for part in parts))
        return self._contents[key]

    def _is_bound(self, pod_set: PodSet) -> bool:
        return kind_for(pod_set, self._workload.placement.binding).division is Division.NODES

    def _managed(self, pod_set: PodSet, share: ClusterShare) -> ManagedObject:
        return _managed({"pod_set": pod_set.name, "manifest": self._object(pod_set, share)})

    def _pod_group(self, pod_set: PodSet, share: ClusterShare) -> PodGroup:
        name = self._object_name(pod_set)
        bindings = tuple(
            PodBinding(name=f"{name}-{ordinal}", node=node)
            for ordinal, node in zip(share.ordinals, share.nodes, strict=True)
        )
        return PodGroup(pod_set=pod_set.name, manifest=self.rendered(pod_set, share.overrides), bindings=bindings)

    def _object(self, pod_set: PodSet, share: ClusterShare) -> Manifest:
        manifest = self.rendered(pod_set, share.overrides)
        if kind_for(pod_set, Binding.CLUSTER).division is not Division.DIVIDED:
            return manifest
        return {**manifest, "spec": {**manifest["spec"], "replicas": share.replicas}}

    def rendered(self, pod_set: PodSet, overrides: tuple[str, ...] = ()) -> Manifest:
        """The object, or the pod where Flotilla binds, as it is in clusters where these overrides apply."""
        key = (pod_set.name, overrides)
        if key not in self._whole:
            self._whole[key] = self._overridden(pod_set, overrides) if overrides else self._plain(pod_set)
        return self._whole[key]

    def _plain(self, pod_set: PodSet) -> Manifest:
        manifest = self._user_manifest(pod_set) if pod_set.manifest is not None else self._template(pod_set)
        return self._bound_pod(manifest) if self._is_bound(pod_set) else manifest

    def _overridden(self, pod_set: PodSet, names: tuple[str, ...]) -> Manifest:
        """What was decided could be applied. Should it not be so any more, the object says which override it lacks."""
        terms = self._workload.placement
        manifest, kind = self.rendered(pod_set), kind_for(pod_set, terms.binding)
        for override in terms.overrides:
            if override.name in names:
                try:
                    manifest = apply_unchecked(manifest, override, kind)
                except OverrideError as error:
                    metadata = manifest["metadata"]
                    failed = {OVERRIDE_FAILED_ANNOTATION: f"{override.name}.{error.field}: {error}"}
                    annotations = {**(metadata.get("annotations") or {}), **failed}
                    manifest = {**manifest, "metadata": {**metadata, "annotations": annotations}}
        return manifest

    def _template(self, pod_set: PodSet) -> Manifest:
        """A Deployment, or a Pod where Flotilla binds, of an image or a pod template."""
        if pod_set.template is not None:
            given = pod_set.template
        else:
            milli = self._workload.annotations.get(GPU_MILLI_ANNOTATION)
            annotations = {"annotations": {GPU_MILLI_ANNOTATION: milli}} if milli is not None else {}
            given = {"metadata": annotations, "spec": image_pod_spec(pod_set)}
        template = self._pod_template(given, pod_set)
        if self._workload.placement.binding is Binding.NODE:
            return {"apiVersion": "v1", "kind": "Pod", **template}
        spec: dict[str, Any] = {"selector": {"matchLabels": identity_of(self._workload, pod_set.name)}}
        if self._workload.placement.at_most_once:
            # Nor does a rollout run what is old beside what is new.
            spec["strategy"] = {"type": "Recreate"}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self._object_name(pod_set), "labels": labels_of(self._workload, pod_set.name, {})},
            "spec": {**spec, "template": template},
        }

    def _user_manifest(self, pod_set: PodSet) -> Manifest:
        manifest = dict(pod_set.manifest or {})
        path = kind_for(pod_set, self._workload.placement.binding).pod_template
        if path == ():
            manifest |= self._pod_template(manifest, pod_set)
        elif path is not None:
            spec = dict(manifest["spec"])
            spec["template"] = self._pod_template(spec["template"], pod_set)
            manifest["spec"] = spec
        metadata = dict(manifest.get("metadata") or {})
        metadata.setdefault("name", self._object_name(pod_set))
        metadata["labels"] = labels_of(self._workload, pod_set.name, metadata.get("labels"))
        return {**manifest, "metadata": metadata}

    def _bound_pod(self, pod: Manifest) -> Manifest:
        """Without a name, which the bindings give, and out of reach of the cluster's own scheduler."""
        metadata = {name: value for name, value in pod["metadata"].items() if name not in {"name", "generateName"}}
        return {**pod, "metadata": metadata, "spec": {**pod["spec"], "schedulerName": SCHEDULER_NAME}}

    def _pod_template(self, template: Mapping[str, Any], pod_set: PodSet) -> dict[str, Any]:
        metadata = dict(template.get("metadata") or {})
        metadata["labels"] = labels_of(self._workload, pod_set.name, metadata.get("labels"))
        return {"metadata": metadata, "spec": self._pod_spec(template["spec"])}

    def _pod_spec(self, given: Mapping[str, Any]) -> dict[str, Any]:
        terms = self._workload.placement
        spec = dict(given)
        if terms.node_selector:
            spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **terms.node_selector}
        if terms.tolerations:
            further = [item.model_dump(by_alias=True, exclude_defaults=True) for item in terms.tolerations]
            spec["tolerations"] = [*(spec.get("tolerations") or []), *further]
        return spec

    def _object_name(self, pod_set: PodSet) -> str:
        return f"{self._workload.name}-{pod_set.name}"
