"""What each process may do at an API server: the one place that says so.

The charts' ClusterRoles and Roles are made from this module (`make gen`). A test runs agents and hub with nothing more
against a real kube-apiserver: each verb is used but the webhook's, everything else is refused
(`tests/integration/deploy/test_permissions.py`).

- No wildcard but where resources are names of metrics, no `get` where a list and a watch do, no secrets but the
  kubeconfigs of clusters that the hub makes.
- A server-side apply is `patch`, and `create` as well where the object is not there yet.
- `list` is what servers are asked that do not stream lists; the others are asked by `watch` alone.
- Discovery and `/version` are everybody's who is authenticated (`system:discovery`, `system:public-info-viewer`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Rule:
    """Verbs on resources of one API group (empty for the core group); `names` narrows it to objects of these names."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def manifest(self) -> dict[str, Any]:
        """As a rule of a Role or ClusterRole."""
        named = {"resourceNames": [*self.names]} if self.names else {}
        return {"apiGroups": [self.group], "resources": [*self.resources], **named, "verbs": [*self.verbs]}

    def grants(self) -> Iterator[tuple[str, str, str]]:
        """Each (group, resource, verb)."""
        for resource in self.resources:
            for verb in self.verbs:
                yield self.group, resource, verb


OBSERVED: Final = ("list", "watch")
# What the executor does with objects that commands name.
APPLIED: Final = ("list", "watch", "create", "patch", "delete")

# The default of FLOTILLA_WATCHER_RESOURCES.
WATCHER: Final = (
    Rule("", ("namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes", "pods", "services"), OBSERVED),
    Rule("apps", ("daemonsets", "deployments", "statefulsets"), OBSERVED),
    Rule("batch", ("jobs",), OBSERVED),
    Rule("policy", ("poddisruptionbudgets",), OBSERVED),
    Rule("storage.k8s.io", ("storageclasses",), OBSERVED),
)
# Only where FLOTILLA_WATCHER_METRICS_S is not 0.
WATCHER_METRICS: Final = (Rule("metrics.k8s.io", ("nodes", "pods"), ("list",)),)
# Only where workloads are scaled by metrics of these APIs: there a resource is named after its metric, so it is any.
WATCHER_ASKED: Final = (
    Rule("custom.metrics.k8s.io", ("*",), ("get",)),
    Rule("external.metrics.k8s.io", ("*",), ("list",)),
)

EXECUTOR: Final = (
    Rule("", ("pods",), APPLIED),
    Rule("", ("pods/binding",), ("create",)),
    # Made when missing, annotated, never deleted.
    Rule("", ("namespaces",), ("list", "watch", "create", "patch")),
    Rule("", ("nodes",), OBSERVED),
    Rule("apps", ("daemonsets", "deployments", "replicasets", "statefulsets"), APPLIED),
    Rule("batch", ("jobs",), APPLIED),
)

# Only where the executor is to carry out orders for node groups: it marks and cordons nodes, empties them, and deletes
# Node objects that a provider leaves behind.
EXECUTOR_NODE_GROUPS: Final = (
    Rule("", ("nodes",), ("patch", "delete")),
    Rule("", ("pods/eviction",), ("create",)),
)
# Where its nodes are kwok's: they are Node objects and nothing else.
EXECUTOR_KWOK: Final = (Rule("", ("nodes",), ("create",)),)
# Where they are of Cluster API in the same cluster; with a management cluster its kubeconfig's account has these.
EXECUTOR_CLUSTER_API: Final = (
    Rule("cluster.x-k8s.io", ("machinedeployments/scale", "machinepools/scale"), ("get", "patch")),
    Rule("cluster.x-k8s.io", ("machines",), ("list", "patch")),
    # Without Machines a pool's nodes stand in its status.
    Rule("cluster.x-k8s.io", ("machinepools",), ("get",)),
)

# On the hub cluster: its two resources, and the namespaces that mirrored Workloads live in.
HUB: Final = (
    Rule("cluster.k8s.io", ("clusters",), ("list", "watch", "create", "delete")),
    Rule("cluster.k8s.io", ("workloads",), ("list", "watch", "create", "update", "patch", "delete")),
    Rule("cluster.k8s.io", ("clusters/status", "workloads/status"), ("patch",)),
    Rule("", ("namespaces",), ("create",)),
)
# In the namespace of FLOTILLA_HUB_LEASE_NAMESPACE. What does not exist has no name yet that a rule could ask for.
HUB_LEASE: Final = (
    Rule("coordination.k8s.io", ("leases",), ("create",)),
    Rule("coordination.k8s.io", ("leases",), ("get", "update"), names=("6d45bc58.k8s.io",)),
)
# Only where it makes clusters: a Cluster that it makes has a finalizer.
HUB_PROVISION: Final = (Rule("cluster.k8s.io", ("clusters",), ("patch",)),)
# Where Cluster API is in the hub's own cluster, in the namespaces of the clusters that it makes; of a management
# cluster its kubeconfig's account has these. The names of kubeconfigs' Secrets are not known before.
HUB_CLUSTER_API: Final = (
    Rule("cluster.x-k8s.io", ("clusters",), ("get", "create", "patch", "delete")),
    Rule("", ("secrets",), ("get",)),
)
# Only where agents of what it makes run beside it, in the hub's own namespace: made by server-side apply, which names
# it, then patched. The agents' pods mount it, and have no permissions here.
KUBECONFIGS: Final = "flotilla-kubeconfigs"
HUB_KUBECONFIGS: Final = (Rule("", ("secrets",), ("get", "create", "patch"), names=(KUBECONFIGS,)),)
# Only where the hub registers /admit; `create` by server-side apply names its object.
HUB_WEBHOOK: Final = (
    Rule(
        "admissionregistration.k8s.io",
        ("validatingwebhookconfigurations",),
        ("create", "patch"),
        names=("flotilla-hub.cluster.k8s.io",),
    ),
)


def grants(*rules: Rule) -> frozenset[tuple[str, str, str]]:
    """Each (group, resource, verb) that the rules give."""
    return frozenset(grant for rule in rules for grant in rule.grants())
