"""What of the settings decisions depend on."""

from __future__ import annotations

from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.settings import AutoscalerSettings


def defaults(settings: AutoscalerSettings) -> Defaults:
    return Defaults(
        tolerance=settings.autoscaler_tolerance,
        down_stabilization_s=settings.autoscaler_down_stabilization_s,
        cpu_initialization_ms=round(settings.autoscaler_cpu_initialization_s * 1000),
        initial_readiness_ms=round(settings.autoscaler_initial_readiness_s * 1000),
    )
