"""What a watcher is to do: there is one thing only, to publish."""

from __future__ import annotations

from dataclasses import dataclass

from shared.kernel.machine import Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Instruction):
    """A record of `fleet.objects`. `seq` is contiguous in an epoch, in the order of the instructions."""

    ce_type: str
    key: bytes
    value: bytes | None
    seq: int
