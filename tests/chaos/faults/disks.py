"""A full disk: a broker's or Redis' own file system, filled to the last byte and emptied again.

Only the service's own file system is filled: that is made with the bed (`limited_disk`), so nothing else suffers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.chaos.bed import Bed
from tests.chaos.faults.base import QUORUM, Fault
from tests.chaos.faults.processes import start_broker

_BALLAST: Final = "ballast"
_CHUNK: Final = 2**20


def fill(directory: Path) -> int:
    """Takes every free byte of the directory's file system; how many those were."""
    taken = 0
    with (directory / _BALLAST).open("wb", buffering=0) as file:
        size = _CHUNK
        while size:
            try:
                os.posix_fallocate(file.fileno(), taken, size)
            except OSError:  # no space for so much: the rest is taken in smaller pieces
                size //= 2
            else:
                taken += size
    return taken


def empty(directory: Path) -> None:
    (directory / _BALLAST).unlink(missing_ok=True)


class BrokerDiskFull(Fault):
    """Kafka gives up a log directory that fails to write, and ends if it was the last: it is started again."""

    name = "full disk of a broker"
    hold = (3.0, 10.0)

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        return list(bed.brokers)

    @property
    def claims(self) -> frozenset[str]:
        return frozenset({QUORUM})

    async def inject(self) -> None:
        taken = fill(self.bed.brokers[self.target].data_dir)
        self.journalist.lived(self.target, "disk full", f"{taken} bytes taken")

    async def heal(self) -> None:
        empty(self.bed.brokers[self.target].data_dir)
        await start_broker(self.bed, self.target)


class RedisDiskFull(Fault):
    """Redis refuses writes while it cannot write its log."""

    name = "full disk of Redis"
    hold = (3.0, 10.0)

    @classmethod
    def targets(cls, bed: Bed) -> list[str]:
        return [bed.redis_host.name]

    async def inject(self) -> None:
        taken = fill(self.bed.redis.data_dir)
        self.journalist.lived(self.target, "disk full", f"{taken} bytes taken")

    async def heal(self) -> None:
        empty(self.bed.redis.data_dir)
        if not self.bed.redis.running:
            self.bed.redis.kill()
            await self.bed.redis.start()
