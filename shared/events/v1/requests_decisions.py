"""Decisions of the autoscaler on what containers request, in `fleet.decisions`: what was decided, and from what."""

from __future__ import annotations

from pydantic import Field

from shared.events.v1.usage import RequestsRecommended
from shared.events.v1.vertical import PodSetRequests, Vertical
from shared.model.base import Value


class ContainerStated(Value):
    """What a container requests as the workload was decided: cpu in thousandths, memory in bytes."""

    name: str
    requests: dict[str, int] = Field(default_factory=dict)
    limits: dict[str, int] = Field(default_factory=dict)


class PodSetUse(Value):
    """What was known of one pod set."""

    name: str
    containers: tuple[ContainerStated, ...] = ()
    recommended: dict[str, RequestsRecommended] = Field(default_factory=dict, description="by container")
    running: int = Field(ge=0, description="pods that run")
    lived_ms: int = Field(default=0, ge=0, description="how long the oldest of them has lived")
    alike: bool = Field(default=True, description="all have the requests that were applied before")
    former: PodSetRequests | None = Field(default=None, description="what was said before")
    rested_ms: int | None = Field(default=None, description="since any requests of the workload were applied")
    full: bool = Field(
        default=False, description="in the last minute those of as many other workloads were applied as may be"
    )


class RequestsBasis(Value):
    """All that requests were decided from, so that whoever decides by it again comes to the same."""

    life: str = Field(description="of the autoscaler: from its start to its end, one after the other")
    config: str = Field(description="hash of the configuration")
    spec: str = Field(description="hash of `vertical`")
    vertical: Vertical = Field(description="what the workload asks, as it was then")
    at: int = Field(description="the time that was gone by; Unix milliseconds")
    settled: bool = Field(description="its status said that all of it runs as was decided last")
    pod_sets: tuple[PodSetUse, ...] = ()


class RequestsDecided(Value):
    """What the containers of a workload are to request from now on, or why not yet; and from what that follows."""

    workload: str = Field(description="namespace/name")
    uid: str
    requests: tuple[PodSetRequests, ...] = ()
    inputs: dict[str, dict[int, int]] = Field(
        default_factory=dict, description="next offset to read when this was decided, by topic and partition"
    )
    basis: RequestsBasis
