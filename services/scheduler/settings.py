"""Settings of the scheduler."""

from __future__ import annotations

import os
import socket
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared.model.names import DnsLabel
from shared.model.quantities import NonNegativeQuantity
from shared.runtime.settings import CommonSettings


def _identity() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class QueueSettings(BaseModel):
    """Amounts as Kubernetes writes them: {"cpu": "40", "nvidia.com/gpu": 8}."""

    model_config = ConfigDict(extra="forbid")

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    guarantee: dict[str, NonNegativeQuantity] = Field(default_factory=dict)
    limit: dict[str, NonNegativeQuantity] = Field(default_factory=dict)


class SchedulerSettings(CommonSettings):
    scheduler_cell: int = Field(default=0, ge=0, description="the cell: a partition of fleet.decisions")
    scheduler_id: str = Field(default_factory=_identity, description="this replica's name in the journal")
    scheduler_renew_s: float = Field(default=0.5, gt=0, description="an idle leader appends a renewal this often")
    scheduler_lease_s: float = Field(default=1.6, gt=0, description="a leader silent for longer is replaced")
    scheduler_batch: int = Field(default=256, ge=1, description="most requests decided in one journal record")
    scheduler_weights: dict[str, float] = Field(
        default_factory=dict, description='weights of cost terms, as JSON: {"fit": 1.0, "price": 0.5}'
    )
    scheduler_priority_classes: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description='the fleet\'s priority classes, as JSON: {"gold": {"value": 1000}, "batch": {"value": -10, '
        '"default": true, "preemptionPolicy": "Never"}}',
    )
    scheduler_queues: dict[DnsLabel, QueueSettings] = Field(
        default_factory=dict,
        description='queues, as JSON: {"research": {"weight": 2, "guarantee": {"cpu": "40"}, "limit": {"cpu": "100"}}}',
    )
    scheduler_plugins: list[str] = Field(
        default_factory=list, description='your own filters and cost terms, by name, as JSON: ["carbon"]'
    )
    scheduler_move_after_s: float = Field(
        default=5.0, gt=0, description="a pod unschedulable in its cluster for longer is placed elsewhere"
    )
    scheduler_gang_patience_s: float = Field(
        default=60.0, ge=0, description="what has to start together and waits for longer has room kept for it"
    )
    scheduler_largest_first_s: float = Field(
        default=60.0,
        ge=0,
        allow_inf_nan=False,
        description="of what waits for room and was asked for within one window of so long the largest pods go first; "
        "0 is none: the oldest first",
    )
    scheduler_tolerate_loss_s: float = Field(
        default=5.0,
        ge=0,
        description="a cluster that is silent for longer than it takes to notice is left, unless a workload's "
        "tolerations of flotilla.dev/silent say something else",
    )
    scheduler_evacuations_per_s: float = Field(
        default=100.0, ge=0, description="replicas that begin to leave clusters in a second; 0 is none"
    )
    scheduler_evacuations_at_once: int = Field(
        default=1_000, ge=1, description="replicas that wait at once for those that replace them elsewhere"
    )
    scheduler_cluster_evacuations_at_once: int = Field(default=500, ge=1, description="likewise, of one cluster")
    scheduler_most_lost: float = Field(
        default=0.55, gt=0, le=1, description="while this part of all clusters is silent, none is left for that"
    )
    scheduler_stable_s: float = Field(
        default=30.0, ge=0, description="a cluster that is well again for so long keeps what has not left it"
    )
    scheduler_rebalances_per_minute: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="replicas of workloads with placement.rebalance that begin to move in a minute; 0 is none",
    )
    scheduler_lease_margin_s: float = Field(
        default=30.0,
        ge=0,
        description="what is atMostOnce and runs by its executor's lease may start elsewhere so long after that is "
        "over and its pods have had their grace period",
    )
    scheduler_max_request_bytes: int = Field(default=512 * 1024, ge=1024, description="larger requests are rejected")
