"""Who is who: the keys under which workloads, objects and commands travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

# Labels and annotations that Flotilla writes on the objects that it manages.
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "flotilla"
WORKLOAD_LABEL = "flotilla.dev/workload"
WORKLOAD_NAMESPACE_LABEL = "flotilla.dev/workload-namespace"
POD_SET_LABEL = "flotilla.dev/pod-set"
GENERATION_ANNOTATION = "flotilla.dev/generation"
EPOCH_ANNOTATION = "flotilla.dev/epoch"
DIGEST_ANNOTATION = "flotilla.dev/digest"
# What the executor alone sets, and only on the objects that it applies itself: pod templates carry the labels above,
# so pods and replica sets that a controller makes have those too, but never this label.
APPLIED_BY_LABEL = "flotilla.dev/applied-by"
APPLIED_BY = "executor"
SUBJECT_ANNOTATION = "flotilla.dev/subject"
# What the subject of a workload's commands begins with.
WORKLOAD_SUBJECT = "workload/"
NODE_GROUP_SUBJECT = "nodegroup/"
# On a node: the node group that it belongs to.
NODE_GROUP_LABEL = "flotilla.dev/node-group"
# The object's own kind, namespace and name: a copy that somebody makes of it, marks included, is not ours.
IDENTITY_ANNOTATION = "flotilla.dev/applied-as"
# On a pod that is yet to be replaced: `<epoch>/<generation>` of the newest command, while the pod is an older one's.
FENCE_ANNOTATION = "flotilla.dev/fence"
TEMPLATE_HASH_ANNOTATION = "flotilla.dev/template-hash"
# On an object that lacks an override which could not be applied any more: which one, and why.
OVERRIDE_FAILED_ANNOTATION = "flotilla.dev/override-failed"
# On a namespace, one annotation for each further kind that was ever applied in it: what has to be listed to prune.
KINDS_ANNOTATION_PREFIX = "kinds.flotilla.dev/"
# On a namespace, one annotation for each object that ran to its end and may be gone, so that it is not run again.
ENDED_ANNOTATION_PREFIX = "ended.flotilla.dev/"
# Labels of nodes and clusters that say what they cost and where they are.
PRICE_LABEL = "flotilla.dev/price-per-hour"
PROVIDER_LABEL = "flotilla.dev/provider"
CLUSTER_LABEL = "flotilla.dev/cluster"
REGION_LABEL = "topology.kubernetes.io/region"
ZONE_LABEL = "topology.kubernetes.io/zone"
# Field manager of the executor, and the scheduler's name on pods that Flotilla binds itself.
FIELD_MANAGER = "flotilla-executor"
SCHEDULER_NAME = "flotilla"

# What follows the cluster in the key of its heartbeat.
_HEARTBEAT = "-/heartbeat"
_HEARTBEAT_BYTES = _HEARTBEAT.encode()


@dataclass(frozen=True, slots=True, order=True)
class WorkloadKey:
    """`namespace/name`: the key of a workload in every topic that is keyed by workload."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError unless `text` is `namespace/name`."""
        namespace, slash, name = text.partition("/")
        if not slash or not namespace or not name or "/" in name:
            raise ValueError(f"{text[:160]!r} is not namespace/name")
        return cls(namespace, name)

    @property
    def subject(self) -> str:
        """The subject of this workload's commands: the key in `fleet.commands.<cluster>`."""
        return f"{WORKLOAD_SUBJECT}{self}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """A Kubernetes resource: what a list or watch is about. `group` is empty for the core group."""

    group: str
    version: str
    plural: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `v1/pods` or `apps/v1/deployments`. Raises ValueError."""
        parts = text.split("/")
        match parts:
            case [version, plural] if version and plural:
                return cls("", version, plural)
            case [group, version, plural] if version and plural:
                return cls(group, version, plural)
        raise ValueError(f"{text!r} is not a resource: want version/plural or group/version/plural")

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def path(self) -> str:
        """The path of the API group and version, without a trailing slash."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def __str__(self) -> str:
        return f"{self.api_version}/{self.plural}"


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """The key of `fleet.objects`: `cluster/group/version/resource/namespace/name`.

    `group` is `core` on the wire for the core group, and `namespace` is `-` for what has none, so that
    no part is empty.
    """

    cluster: str
    resource: Resource
    namespace: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        parts = text.split("/")
        if len(parts) != 6:  # noqa: PLR2004 - the six parts of the docstring
            raise ValueError(f"{text[:200]!r} is not cluster/group/version/resource/namespace/name")
        cluster, group, version, plural, namespace, name = parts
        return cls(
            cluster,
            Resource("" if group == "core" else group, version, plural),
            "" if namespace == "-" else namespace,
            name,
        )

    def __str__(self) -> str:
        resource = self.resource
        return (
            f"{self.cluster}/{resource.group or 'core'}/{resource.version}/{resource.plural}"
            f"/{self.namespace or '-'}/{self.name}"
        )


def sync_marker_key(cluster: str, resource: Resource) -> str:
    """The key of a watcher's sync marker in `fleet.objects`; it never collides with an object's."""
    return f"{cluster}/-/sync/{resource}"


def heartbeat_key(cluster: str) -> str:
    """The key of a watcher's heartbeat in `fleet.objects`."""
    return f"{cluster}/{_HEARTBEAT}"


def heartbeat_cluster(key: bytes) -> str | None:
    """The cluster whose heartbeat has this key in `fleet.objects`; None for the key of anything else.

    It takes the key as it is in the record, since readers of the topic ask it of every one; what is not UTF-8 in a
    cluster's name is replaced. A node called `heartbeat` has no heartbeat's key: only the whole rest of a key counts.
    """
    cluster, _, rest = key.partition(b"/")
    return cluster.decode(errors="replace") if rest == _HEARTBEAT_BYTES and cluster else None


def is_object_key(key: str) -> bool:
    """Whether a key of `fleet.objects` names an object, rather than a marker or a heartbeat."""
    _, _, rest = key.partition("/")
    return not rest.startswith("-/")
