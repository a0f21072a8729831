"""Faults on demand: latency, errors, throttling. Dropped watches and stale lists are done where they happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.simulator.core.errors import ApiError

_REASONS = {
    400: "BadRequest",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
Fraction = Annotated[float, Field(ge=0, le=1)]


class FaultSpec(BaseModel):
    """What goes wrong in a cluster's API server. Rates are fractions of the requests that match."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    latency_seconds: float = Field(0.0, ge=0, le=60)
    latency_jitter_seconds: float = Field(0.0, ge=0, le=60)
    error_rate: Fraction = 0.0
    error_status: int = Field(500, ge=400, le=599)
    throttle_rate: Fraction = Field(0.0, description="answered with 429 and Retry-After")
    retry_after_seconds: int = Field(1, ge=0)
    methods: tuple[str, ...] = Field((), description="only these methods; all if empty")
    path_contains: str = Field("", description="only paths that contain this")
    stale_lists: bool = Field(False, description="lists that allow it are answered from the state at injection")


NO_FAULTS = FaultSpec()


class Faults:
    """The current faults of a cluster; `chance` gives numbers in [0, 1)."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self.spec = NO_FAULTS
        self._chance = chance

    async def before(self, request: web.BaseRequest, path: str) -> None:
        """Delays or refuses a request.

        Raises:
            ApiError: the fault that was asked for.
        """
        spec = self.spec
        if spec is NO_FAULTS or spec.path_contains not in path:
            return
        if spec.methods and request.method not in spec.methods:
            return
        delay = spec.latency_seconds + spec.latency_jitter_seconds * self._chance()
        if delay:
            await asyncio.sleep(delay)
        if spec.throttle_rate and self._chance() < spec.throttle_rate:
            message = "too many requests, please try again later (injected)"
            raise ApiError(429, "TooManyRequests", message, retry_after=spec.retry_after_seconds)
        if spec.error_rate and self._chance() < spec.error_rate:
            reason = _REASONS.get(spec.error_status, "Unknown")
            raise ApiError(spec.error_status, reason, "injected fault")
