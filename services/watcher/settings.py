"""FLOTILLA_WATCHER_* variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from shared.model.identities import Resource
from shared.model.names import label_key_error, label_value_error
from shared.runtime.settings import ClusterName, CommonSettings

DEFAULT_RESOURCES = (
    "v1/nodes,v1/pods,v1/services,v1/namespaces,v1/persistentvolumeclaims,v1/persistentvolumes,"
    "apps/v1/deployments,apps/v1/statefulsets,apps/v1/daemonsets,batch/v1/jobs,"
    "policy/v1/poddisruptionbudgets,storage.k8s.io/v1/storageclasses"
)


def parse_resources(text: str) -> frozenset[Resource]:
    """From `v1/pods,apps/v1/deployments`. Raises ValueError."""
    return frozenset(Resource.parse(part.strip()) for part in text.split(",") if part.strip())


def parse_labels(text: str) -> dict[str, str]:
    """From `key=value,key=value`. Raises ValueError."""
    labels = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        error = label_key_error(key) or label_value_error(value) if equals else "want key=value"
        if error:
            raise ValueError(f"{part[:200]!r}: {error}")
        labels[key] = value
    return labels


def _resources(text: str) -> str:
    parse_resources(text)
    return text


def _labels(text: str) -> str:
    parse_labels(text)
    return text


ResourceList = Annotated[str, AfterValidator(_resources)]
LabelList = Annotated[str, AfterValidator(_labels)]


class WatcherSettings(CommonSettings):
    watcher_cluster: ClusterName = Field(
        default="", description="name of the cluster, for one cluster; not with a directory"
    )
    watcher_kubeconfig: Path | None = Field(
        default=None, description="kubeconfig of the one cluster; without it the pod's service account is used"
    )
    watcher_kubeconfig_dir: Path | None = Field(
        default=None,
        description="directory of kubeconfigs, one for each cluster, whose name is the file's name without its suffix, "
        "a DNS label; files may appear, change and vanish",
    )
    watcher_resources: ResourceList = Field(
        default=DEFAULT_RESOURCES, description="what is watched, as version/plural or group/version/plural, by commas"
    )
    watcher_extra_resources: ResourceList = Field(
        default="", description="what is watched beside FLOTILLA_WATCHER_RESOURCES, custom resources for example"
    )
    watcher_labels: LabelList = Field(
        default="", description="labels of the clusters of this process (region, provider), as key=value, by commas"
    )
    watcher_heartbeat_s: float = Field(default=3.0, gt=0, description="time between heartbeats, in seconds")
    watcher_probe_timeout_s: float = Field(
        default=4.0, gt=0, description="deadline of the question whether the API server lives, in seconds"
    )
    watcher_metrics_s: float = Field(
        default=15.0,
        ge=0,
        description="time between polls of metrics.k8s.io and of what else workloads are scaled by; 0 polls never",
    )
    watcher_queries: Path | None = Field(
        default=None,
        description="file (YAML) of Prometheus servers and of the queries by which metrics are read from them",
    )
    watcher_audit_s: float = Field(
        default=600.0,
        ge=0,
        description="time between audits, in which every resource is listed anew and compared with what was published, "
        "in seconds; 0 audits only what a reader of the log doubts",
    )
    watcher_audit_rate: float = Field(
        default=2000.0, gt=0, description="objects a second that an audit lists at most, to spare the API server"
    )
    watcher_scan_s: float = Field(default=1.0, gt=0, description="time between looks at the directory, in seconds")

    @model_validator(mode="after")
    def _one_source(self) -> WatcherSettings:
        if self.watcher_kubeconfig_dir and (self.watcher_cluster or self.watcher_kubeconfig):
            raise ValueError("either a directory of kubeconfigs or one cluster, not both")
        if not self.watcher_kubeconfig_dir and not self.watcher_cluster:
            raise ValueError("set FLOTILLA_WATCHER_CLUSTER, or FLOTILLA_WATCHER_KUBECONFIG_DIR")
        return self

    def resources(self) -> frozenset[Resource]:
        return parse_resources(self.watcher_resources) | parse_resources(self.watcher_extra_resources)
