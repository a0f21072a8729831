"""The labels of a workload's pods: what users give, and those by which the fleet knows them."""

from __future__ import annotations

from collections.abc import Mapping

from shared.events.v1.workloads import Workload
from shared.model.identities import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    POD_SET_LABEL,
    WORKLOAD_LABEL,
    WORKLOAD_NAMESPACE_LABEL,
)

_APP_NAME_LABEL = "app.kubernetes.io/name"


def labels_of(workload: Workload, pod_set: str, given: Mapping[str, str] | None) -> dict[str, str]:
    """Of an object or a pod template; `given` are its own."""
    return {
        _APP_NAME_LABEL: workload.name,
        **workload.labels,
        **(given or {}),
        MANAGED_BY_LABEL: MANAGED_BY,
        **identity_of(workload, pod_set),
    }


def identity_of(workload: Workload, pod_set: str) -> dict[str, str]:
    """The labels by which the fleet, and a Deployment's selector, know these pods. They never change."""
    return {
        WORKLOAD_LABEL: workload.name,
        WORKLOAD_NAMESPACE_LABEL: workload.namespace,
        POD_SET_LABEL: pod_set,
    }
