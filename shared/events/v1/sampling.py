"""`fleet.sampling`: what watchers are to measure beside cpu and memory, because a workload is scaled by it.

The topic is compacted: its latest records are all that is to be measured. A workload at zero replicas is in no cluster,
so the clusters' own objects could not say it (docs/adr/0028).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.events.v1.policies import is_empty
from shared.model.base import Value


class SampledObject(Value):
    api_version: str = ""
    kind: str
    name: str


class SampledMetric(Value):
    """A metric as Kubernetes' metrics APIs are asked for it; hashable, since it is what its values are known by.

    Of `type` Pods `pods` selects the pods, of `type` Object `object` says which one. Selectors are as text, in the form
    of Kubernetes.
    """

    type: Literal["Pods", "Object", "External"]
    namespace: str
    name: str
    selector: str = Field(default="", exclude_if=is_empty, description="of series; empty selects all")
    pods: str = Field(default="", exclude_if=is_empty, description="labels of the pods that count")
    object: SampledObject | None = None


class SamplingRequested(Value):
    """All that one workload is scaled by and no watcher measures unasked."""

    metrics: tuple[SampledMetric, ...]
