"""Clusters by Cluster API: a `Cluster` with a topology, whose ClusterClass says the rest.

What is wanted is applied as one field manager, so that changes of version, workers and variables are changes of its
topology, and what others own (the replicas of workers that an autoscaler scales) stays theirs. The annotation
`flotilla.dev/provisioned-for` names the Cluster of the hub that it is for: without it nothing is written or deleted.

Source: Cluster API, `api/core/v1beta2/cluster_types.go` and its v1beta1; the kubeconfig is that of the contract, in
the Secret `<name>-kubeconfig` (`util/secret`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from shared.adapters.node_groups.cluster_api import GROUP, VERSIONS
from shared.events.v1.provisioning import ClusterApiProvision, Workers
from shared.model.identities import MANAGED_BY, MANAGED_BY_LABEL, Resource
from shared.model.provisioning import (
    BAD_KUBECONFIG,
    NAME_CONFLICT,
    NO_KUBECONFIG,
    PROVISIONED,
    PROVISIONING,
    UPDATING,
    Stage,
    Standing,
)
from shared.ports.cluster_api import ApiError, ApplyOptions, ClusterApi, Object
from shared.ports.provisioning import KubeconfigError

OWNER_ANNOTATION: Final = "flotilla.dev/provisioned-for"
MANAGER: Final = "flotilla-hub-provisioning"
CLUSTER_LABEL: Final = "cluster.x-k8s.io/cluster-name"
SECRETS: Final = Resource("", "v1", "secrets")
_NOT_FOUND: Final = 404
_LONGEST: Final = 512
# What is false of a cluster that comes, the first that says most about why.
_TELLING: Final = (
    "TopologyReconciled",
    "InfrastructureReady",
    "ControlPlaneInitialized",
    "ControlPlaneAvailable",
    "ControlPlaneReady",
    "WorkersAvailable",
    "Available",
    "Ready",
)
# What is true of a cluster that changes (v1beta2).
_CHANGING: Final = ("RollingOut", "ScalingUp", "ScalingDown")

Connect = Callable[[str], Awaitable[ClusterApi]]


class ClusterApiProvisioner:
    """`connect` gives the API server of a management cluster by its name, empty for the hub's own; it keeps it."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def apply(self, name: str, owner: str, wanted: ClusterApiProvision) -> Standing:
        api = await self._connect(wanted.management or "")
        resource = await _clusters(api)
        present = await _find(api, resource, wanted.namespace, name)
        if present is not None and (other := _not_ours(present, owner, wanted)):
            return other
        if present is not None and "deletionTimestamp" in present["metadata"]:
            return Standing(
                Stage.LEAVING, "Deleting", "it is being deleted in the management cluster, by somebody else"
            )
        body = manifest(name, owner, wanted, resource.version)
        if present is not None:
            # That very object, and none that somebody makes meanwhile.
            body["metadata"]["uid"] = present["metadata"]["uid"]
        options = ApplyOptions(MANAGER, force=present is not None)
        return _standing(await api.apply(resource, wanted.namespace, name, body, options))

    async def kubeconfig(self, name: str, wanted: ClusterApiProvision) -> bytes:
        api = await self._connect(wanted.management or "")
        secret = await _find(api, SECRETS, wanted.namespace, f"{name}-kubeconfig")
        if secret is None:
            raise KubeconfigError(NO_KUBECONFIG, f"there is no Secret {wanted.namespace}/{name}-kubeconfig yet")
        if (secret["metadata"].get("labels") or {}).get(CLUSTER_LABEL) != name:
            raise KubeconfigError(
                BAD_KUBECONFIG, f"Secret {name}-kubeconfig has not the label {CLUSTER_LABEL}={name}: it is not its"
            )
        try:
            document = base64.b64decode((secret.get("data") or {}).get("value", ""), validate=True)
        except binascii.Error as error:
            raise KubeconfigError(BAD_KUBECONFIG, f"Secret {name}-kubeconfig has no base64 under `value`") from error
        if not document:
            raise KubeconfigError(NO_KUBECONFIG, f"Secret {wanted.namespace}/{name}-kubeconfig has nothing in it yet")
        return document

    async def delete(self, name: str, owner: str, wanted: ClusterApiProvision) -> Standing:
        api = await self._connect(wanted.management or "")
        resource = await _clusters(api)
        present = await _find(api, resource, wanted.namespace, name)
        if present is None:
            return Standing(Stage.ABSENT)
        if other := _not_ours(present, owner, wanted):
            return other
        if "deletionTimestamp" not in present["metadata"]:
            await api.delete(resource, wanted.namespace, name, uid=present["metadata"]["uid"])
        return Standing(Stage.LEAVING, "Deleting", _why(present, ("Deleting",), "True"))


def manifest(name: str, owner: str, wanted: ClusterApiProvision, version: str) -> Object:
    """The `Cluster` of `cluster.x-k8s.io` in one of its versions."""
    old = version == "v1beta1"
    kind, where = wanted.cluster_class.name, wanted.cluster_class.namespace
    topology: dict[str, Any] = {"version": wanted.version}
    if old:
        topology |= {"class": kind, **({"classNamespace": where} if where else {})}
    else:
        topology["classRef"] = {"name": kind, **({"namespace": where} if where else {})}
    if wanted.control_plane_replicas is not None:
        topology["controlPlane"] = {"replicas": wanted.control_plane_replicas}
    workers: dict[str, list[Object]] = {}
    for item in wanted.workers:
        workers.setdefault(_LISTS[item.resource], []).append(_workers(item))
    if workers:
        topology["workers"] = workers
    if wanted.variables:
        topology["variables"] = [{"name": item.name, "value": item.value} for item in wanted.variables]
    spec: Object = {"topology": topology}
    network = {"pods": wanted.pod_cidrs, "services": wanted.service_cidrs}
    if given := {field: {"cidrBlocks": [*blocks]} for field, blocks in network.items() if blocks}:
        spec["clusterNetwork"] = given
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": "Cluster",
        "metadata": {
            "name": name,
            "namespace": wanted.namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            "annotations": {OWNER_ANNOTATION: owner},
        },
        "spec": spec,
    }


_LISTS: Final = {"machinedeployments": "machineDeployments", "machinepools": "machinePools"}


def _workers(item: Workers) -> Object:
    out: Object = {"name": item.name, "class": item.worker_class}
    if item.replicas is not None:
        out["replicas"] = item.replicas
    if item.failure_domain is not None and item.resource == "machinepools":
        out["failureDomains"] = [item.failure_domain]
    elif item.failure_domain is not None:
        out["failureDomain"] = item.failure_domain
    return out


async def _clusters(api: ClusterApi) -> Resource:
    for version in VERSIONS:
        resource = Resource(GROUP, version, "clusters")
        if await api.discover(resource) is not None:
            return resource
    raise ApiError(_NOT_FOUND, "NotFound", f"{api.server} has no clusters.{GROUP}: Cluster API is not installed there")


async def _find(api: ClusterApi, resource: Resource, namespace: str, name: str) -> Object | None:
    try:
        return await api.get(resource, namespace, name)
    except ApiError as error:
        if error.code != _NOT_FOUND:
            raise
        return None


def _not_ours(present: Object, owner: str, wanted: ClusterApiProvision) -> Standing | None:
    metadata = present["metadata"]
    if (metadata.get("annotations") or {}).get(OWNER_ANNOTATION) == owner:
        return None
    message = (
        f"{GROUP} Cluster {wanted.namespace}/{metadata['name']} is there already and is not this Cluster's; to hand it "
        f"over, annotate it with {OWNER_ANNOTATION}={owner}"
    )
    return Standing(Stage.FOREIGN, NAME_CONFLICT, message)


def _standing(found: Object) -> Standing:
    status = found.get("status") or {}
    phase = str(status.get("phase", ""))
    if phase == "Failed":
        text = f"{status.get('failureReason', '')}: {status.get('failureMessage', '')}".strip(": ")
        return Standing(Stage.COMING, "Failed", (text or _why(found))[:_LONGEST])
    if not _initialized(status):
        return Standing(Stage.COMING, PROVISIONING, _why(found) or f"phase {phase or 'Pending'}")
    behind = int(status.get("observedGeneration", 0)) < int(found["metadata"].get("generation", 0))
    changing = _why(found, ("TopologyReconciled",)) or _why(found, _CHANGING, "True")
    if behind or changing:
        return Standing(Stage.READY, UPDATING, changing)
    return Standing(Stage.READY, PROVISIONED, _why(found))


def _initialized(status: Object) -> bool:
    """Whether its API server has answered; the phase says that only of an endpoint, and is not to be relied upon."""
    if (status.get("initialization") or {}).get("controlPlaneInitialized") is True:
        return True
    return status.get("controlPlaneReady") is True or any(
        item.get("type") == "ControlPlaneInitialized" and item.get("status") == "True"
        for item in status.get("conditions") or ()
    )


def _why(found: Object, kinds: tuple[str, ...] = _TELLING, state: str = "False") -> str:
    """Of these conditions the first that is so, in words."""
    return next(_in_words(found, kinds, state), "")[:_LONGEST]


def _in_words(found: Object, kinds: tuple[str, ...], state: str) -> Iterator[str]:
    conditions = {item.get("type"): item for item in (found.get("status") or {}).get("conditions") or ()}
    for kind in kinds:
        item = conditions.get(kind)
        if item is not None and item.get("status") == state:
            text = f"{kind}: {item.get('reason', '')}: {item.get('message', '')}"
            yield " ".join(text.rstrip(": ").split())
