"""Settings of the autoscaler."""

from __future__ import annotations

from pydantic import Field

from shared.runtime.settings import CommonSettings


class AutoscalerSettings(CommonSettings):
    autoscaler_evaluation_period_s: float = Field(
        default=15.0,
        gt=0,
        description="how often a workload is looked at without an occasion, in seconds: kube-controller-manager's "
        "--horizontal-pod-autoscaler-sync-period",
    )
    autoscaler_reaction_s: float = Field(
        default=0.2,
        ge=0,
        description="least time between two looks at a workload with a behavior, when samples come, in seconds",
    )
    autoscaler_stale_s: float = Field(
        default=90.0, gt=0, description="age of a sample from which on it says nothing any more, in seconds"
    )
    autoscaler_remember_s: float = Field(
        default=60.0, gt=0, description="how often what is remembered is published though nothing changed, in seconds"
    )
    autoscaler_learned_s: float = Field(
        default=300.0,
        gt=0,
        description="how often what was learned over days is published, in seconds: as much of it is lost by a crash",
    )
    autoscaler_tolerance: float = Field(
        default=0.1, ge=0, description="part of a target within which nothing is done, where a workload does not say"
    )
    autoscaler_down_stabilization_s: int = Field(
        default=300, ge=0, description="window of the highest recommendation, where a workload does not say, in seconds"
    )
    autoscaler_cpu_initialization_s: float = Field(
        default=300.0, ge=0, description="how long the cpu of a pod that starts may be misleading, in seconds"
    )
    autoscaler_initial_readiness_s: float = Field(
        default=30.0, ge=0, description="how long after its start a pod that was ready counts as starting, in seconds"
    )
    autoscaler_batch: int = Field(default=2000, ge=1, le=100_000, description="records that are read at once, at most")
    autoscaler_silent_s: float = Field(
        default=15.0,
        gt=0,
        description="a standby works when the instance that replaced it shows no sign of life for so long, in seconds",
    )
