"""Settings of the autoscaler."""

from __future__ import annotations

from pydantic import Field

from shared.events.v1.clusters import HeadRoom
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
    autoscaler_vertical_period_s: float = Field(
        default=60.0,
        gt=0,
        description="how often requests are compared with what is recommended, in seconds: the Vertical Pod "
        "Autoscaler's --updater-interval",
    )
    autoscaler_vertical_interval_s: float = Field(
        default=600.0,
        ge=0,
        description="how long a workload's requests stay at least, once they were applied, in seconds",
    )
    autoscaler_vertical_per_minute: int = Field(
        default=10, ge=1, description="workloads whose pods get other requests in a minute, at most"
    )
    autoscaler_nodes_period_s: float = Field(
        default=10.0,
        gt=0,
        description="how often node groups are looked at without an occasion, in seconds: cluster-autoscaler's "
        "--scan-interval",
    )
    autoscaler_batch_idle_s: float = Field(
        default=1.0, ge=0, description="pods that wait are planned when no more have come for so long, in seconds"
    )
    autoscaler_batch_max_s: float = Field(
        default=10.0, ge=0, description="they are planned so long after the first of them at the latest, in seconds"
    )
    autoscaler_provision_s: float = Field(
        default=900.0,
        gt=0,
        description="a node that was asked for and is not there after so long does not come: its group is left alone "
        "for a while, and the next plan goes elsewhere, in seconds",
    )
    autoscaler_unneeded_s: float = Field(
        default=600.0, ge=0, description="a node goes when it was not needed for so long, in seconds"
    )
    autoscaler_drain_patience_s: float = Field(
        default=3600.0, gt=0, description="a node whose pods have not left after so long stays, in seconds"
    )
    autoscaler_max_draining: int = Field(default=10, ge=0, description="nodes that go at once; 0: none ever goes")
    autoscaler_max_price_per_hour: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="what the nodes of all groups together may cost an hour; absent means no limit",
    )
    autoscaler_head_room: HeadRoom | None = Field(
        default=None,
        description="room that every cluster with node groups keeps, unless its own says something else, as JSON: "
        '{"cpu": "10%", "memory": "10%"}',
    )
    autoscaler_rewards: dict[str, float] = Field(
        default_factory=dict, description='weights of utilities of sizes, as JSON: {"price": 10, "head_room": 5}'
    )
    scheduler_weights: dict[str, float] = Field(
        default_factory=dict, description="the schedulers' own: nodes are planned by where they will put the pods"
    )
    scheduler_largest_first_s: float = Field(
        default=60.0, ge=0, allow_inf_nan=False, description="the schedulers' own, likewise"
    )
    autoscaler_batch: int = Field(default=2000, ge=1, le=100_000, description="records that are read at once, at most")
    autoscaler_silent_s: float = Field(
        default=15.0,
        gt=0,
        description="a standby works when the instance that replaced it shows no sign of life for so long, in seconds",
    )
