"""What a container should request: percentiles of what it used, with a margin, and bounds that say how sure that is.

With little history the bounds are far apart, so that nobody hurries. At least a pod's share of 25 thousandths of a
core and of 250 MiB is recommended. Amounts are whole thousandths of a core, and bytes.

Source: pkg/recommender/logic (recommender.go, estimator.go) of the Vertical Pod Autoscaler.
"""

from __future__ import annotations

import math

from services.autoscaler.decision.vertical.use import ContainerUse
from shared.events.v1.usage import Requests, RequestsRecommended

_TARGET, _LOWER, _UPPER = 0.9, 0.5, 0.95
_MARGIN = 0.15
_POD_LEAST = Requests(cpu=25, memory=250 * 1024 * 1024)
_MOST = 10**14
_DAY_MS = 86_400_000
_SAMPLES_A_DAY = 60 * 24


def recommended(use: ContainerUse, containers: int) -> RequestsRecommended:
    """Of one of a pod's so many containers."""
    confidence = _confidence(use)
    share = 1.0 / containers
    least = Requests(cpu=_scaled(_POD_LEAST.cpu, share), memory=_scaled(_POD_LEAST.memory, share))

    def requests(part: float, factor: float) -> Requests:
        cpu = _scaled(_with_margin(_amount(use.cpu.percentile(part) * 1000.0)), factor)
        memory = _scaled(_with_margin(_amount(use.memory.percentile(part))), factor)
        return Requests(cpu=max(cpu, least.cpu), memory=max(memory, least.memory))

    return RequestsRecommended(
        target=requests(_TARGET, 1.0),
        lower=requests(_LOWER, _multiplier(0.001, -2.0, confidence)),
        upper=requests(_UPPER, _multiplier(1.0, 1.0, confidence)),
    )


def _confidence(use: ContainerUse) -> float:
    """About the days of one sample a minute that it rests on."""
    return min((use.last_ms - use.first_ms) / _DAY_MS, use.samples / _SAMPLES_A_DAY)


def _multiplier(multiplier: float, exponent: float, confidence: float) -> float:
    if confidence <= 0:
        return math.inf if exponent > 0 else 0.0
    return math.pow(1.0 + multiplier / confidence, exponent)


def _with_margin(amount: int) -> int:
    return amount + _scaled(amount, _MARGIN)


def _scaled(amount: int, factor: float) -> int:
    return _amount(amount * factor) if amount else 0


def _amount(value: float) -> int:
    return int(min(max(value, 0.0), _MOST))
