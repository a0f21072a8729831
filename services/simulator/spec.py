"""What a simulated cluster is like: where it runs, its nodes, its speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

DEFAULT_VERSION = "v1.36.3"
_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class NodeTaint(_Spec):
    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


class NodeGroup(_Spec):
    """Nodes of one kind. Zones are given out in turn."""

    name: str = Field("default", pattern=_NAME)
    count: int = Field(3, ge=0, le=10_000)
    cpu: str = "8"
    memory: str = "32Gi"
    pods: int = Field(110, ge=0)
    gpu: int = Field(0, ge=0)
    gpu_resource: str = "nvidia.com/gpu"
    resources: dict[str, str] = Field(default_factory=dict, description="further extended resources")
    instance_type: str = "simulated.2xlarge"
    zones: tuple[str, ...] = ("a",)
    labels: dict[str, str] = Field(default_factory=dict)
    taints: tuple[NodeTaint, ...] = ()
    price_per_hour: float | None = Field(None, ge=0)


class Timing(_Spec):
    """How long things take, in seconds."""

    pod_start: float = Field(1.0, ge=0, description="from bound to running")
    pod_start_jitter: float = Field(0.5, ge=0, description="at most this much more")
    pod_stop: float = Field(0.5, ge=0, description="from deletion to gone, at most the grace period")
    job_run: float = Field(5.0, ge=0, description="how long a job's pod runs unless it is annotated")
    orphan_grace: float = Field(5.0, ge=0, description="from a node's removal to that of its pods")
    node_grace: float = Field(10.0, ge=0, description="from a node's failure to NotReady")
    crash_backoff: float = Field(10.0, gt=0, description="first wait before a restart; doubles up to five minutes")
    lease_renewal: float = Field(0.0, ge=0, description="node leases are renewed so often; 0 never")


class Load(_Spec):
    """What running pods use, as a fraction of what they request."""

    kind: Literal["constant", "sine", "recorded"] = "constant"
    level: float = Field(0.5, ge=0)
    amplitude: float = Field(0.3, ge=0)
    period: float = Field(3600.0, gt=0)
    file: Path | None = Field(None, description="CSV with a header: time in minutes, then a column of percents per pod")
    default_cpu: str = "100m"
    default_memory: str = "128Mi"


class ClusterSpec(_Spec):
    name: str = Field(pattern=_NAME, max_length=63)
    region: str = "simulated-1"
    provider: str = "simulator"
    version: str = Field(DEFAULT_VERSION, pattern=r"^v\d+\.\d+\.\d+")
    node_groups: tuple[NodeGroup, ...] = (NodeGroup(),)
    controllers: bool = Field(True, description="off for a hub: objects are stored, nothing acts on them")
    timing: Timing = Timing()
    load: Load = Load()
    event_limit: int = Field(1000, ge=0, description="newest events of v1 that are kept")


class SimulationSpec(_Spec):
    clusters: tuple[ClusterSpec, ...]


def load_specs(path: Path) -> tuple[ClusterSpec, ...]:
    """Reads `clusters: [...]` from a YAML file."""
    document: Any = yaml.safe_load(path.read_text())
    return SimulationSpec.model_validate(document).clusters
