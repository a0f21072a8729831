"""A provider that did not answer is asked again: a few times, with growing pauses, within one deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from shared.model.node_groups import PROVIDER_UNAVAILABLE
from shared.ports.clock import Clock
from shared.ports.node_groups import ProviderError

T = TypeVar("T")
_ATTEMPTS: Final = 3
_PAUSE_S: Final = 0.5


async def retried(clock: Clock, attempt: Callable[[], Awaitable[T]], *, what: str, deadline_s: float) -> T:
    """What the first attempt that is answered returns. Raises ProviderError; what is refused is not asked again."""
    error = ProviderError(PROVIDER_UNAVAILABLE, f"{what}: not asked")
    try:
        async with asyncio.timeout(deadline_s):
            for number in range(_ATTEMPTS):
                if number:
                    await clock.sleep(_PAUSE_S * 2**number * (0.5 + random.random() / 2))  # noqa: S311 - jitter
                try:
                    return await attempt()
                except ProviderError as refusal:
                    error = refusal
                    if refusal.reason != PROVIDER_UNAVAILABLE:
                        raise
    except TimeoutError as late:
        message = f"{what}: no answer within {deadline_s:g} s; before that: {error.message}"
        raise ProviderError(PROVIDER_UNAVAILABLE, message[:512]) from late
    raise error
