"""When an inventory is worth publishing: as soon as it differs from the last one, and now and then if it does not.

Unchanged ones are repeated, so that an executor which says nothing can be told from one that has nothing new to say.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from shared.events.v1.inventories import InventoryReported
from shared.ports.clock import Clock

# An unchanged inventory is said again at every fifth look.
REPEAT: Final = 5

Look = Callable[[int], InventoryReported | None]


class InventoryTaker:
    """Looks every `interval_s`; `look` is given the time within which the next one is promised, in milliseconds."""

    def __init__(
        self, look: Look, publish: Callable[[InventoryReported], None], clock: Clock, interval_s: float
    ) -> None:
        self._look = look
        self._publish = publish
        self._clock = clock
        self._interval_s = interval_s
        self._digest = ""
        self._unchanged = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        # Spread over the clusters of a process.
        await self._clock.sleep(self._interval_s * random.uniform(0.2, 1.0))  # noqa: S311 - jitter
        while True:
            self.take()
            await self._clock.sleep(self._interval_s)

    def take(self) -> None:
        inventory = self._look(round(self._interval_s * REPEAT * 1000))
        if inventory is None:
            return
        counts = sum(item.objects for item in inventory.subjects if not item.commanded)
        digest = f"{inventory.digest}/{counts}"
        if digest == self._digest and self._unchanged + 1 < REPEAT:
            self._unchanged += 1
            return
        self._digest, self._unchanged = digest, 0
        self._publish(inventory)
