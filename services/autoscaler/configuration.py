"""What of the settings decisions depend on."""

from __future__ import annotations

from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.nodes.draining import Times
from services.autoscaler.decision.nodes.rewards import NAMES, Policy, Rewards
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig, Weights
from services.autoscaler.decision.nodes.seen import Limits
from services.autoscaler.decision.vertical.applying import Pace
from services.autoscaler.settings import AutoscalerSettings


def defaults(settings: AutoscalerSettings) -> Defaults:
    return Defaults(
        tolerance=settings.autoscaler_tolerance,
        down_stabilization_s=settings.autoscaler_down_stabilization_s,
        cpu_initialization_ms=round(settings.autoscaler_cpu_initialization_s * 1000),
        initial_readiness_ms=round(settings.autoscaler_initial_readiness_s * 1000),
    )


def pace(settings: AutoscalerSettings) -> Pace:
    return Pace(
        look_ms=round(settings.autoscaler_vertical_period_s * 1000),
        interval_ms=round(settings.autoscaler_vertical_interval_s * 1000),
        most_a_minute=settings.autoscaler_vertical_per_minute,
    )


def scheduler_config(settings: AutoscalerSettings) -> SchedulerConfig:
    """As far as places of pods depend on it, that of the fleet's schedulers. Raises ValueError."""
    return SchedulerConfig(
        weights=Weights.from_mapping(settings.scheduler_weights),
        largest_first_ms=round(settings.scheduler_largest_first_s * 1000),
    )


def policy(settings: AutoscalerSettings) -> Policy:
    """Raises ValueError, for rewards that are none."""
    try:
        rewards = Rewards(**settings.autoscaler_rewards)
    except TypeError as error:
        raise ValueError(f"autoscaler_rewards: want some of {', '.join(NAMES)}") from error
    return Policy(
        rewards=rewards,
        limits=Limits(price_per_hour=settings.autoscaler_max_price_per_hour),
        unneeded_ms=round(settings.autoscaler_unneeded_s * 1000),
        most_draining=settings.autoscaler_max_draining,
    )


def times(settings: AutoscalerSettings) -> Times:
    return Times(
        provision=round(settings.autoscaler_provision_s * 1000),
        patience=round(settings.autoscaler_drain_patience_s * 1000),
    )
