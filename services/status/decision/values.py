"""What a status is made of, as this service keeps and publishes it.

Field by field the messages of `shared/events/v1/status.py`, as msgspec structures instead of Pydantic models. There is
one status for each workload, and each is read at a start and compared at every change: so it takes a quarter of the
memory and a fifth of the time. A test holds the two against each other; what cannot be read into them, the message
itself judges (`decoding.py`).
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from shared.events.v1.status import Phase


class _Value(Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """None of them is part of a cycle, so the collector need not know them."""


class Condition(_Value, frozen=True, kw_only=True):
    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_at: int


class Counts(_Value, frozen=True, kw_only=True):
    desired: int = 0
    placed: int = 0
    pods: int = 0
    running: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0


class Template(_Value, frozen=True, kw_only=True):
    digest: str
    generation: int = 0


class PodSetStatus(_Value, frozen=True, kw_only=True):
    """`template` is UNSET where the message leaves it out."""

    name: str
    counts: Counts
    template: Template | UnsetType = UNSET


class ClusterStatus(_Value, frozen=True, kw_only=True):
    """`generation` is UNSET where the message leaves it out."""

    cluster: str
    counts: Counts
    pod_sets: tuple[PodSetStatus, ...] = ()
    generation: int | UnsetType = UNSET
    applied: bool = False
    stale: bool = False
    reason: str = ""
    message: str = ""
    digest: str = ""


class Milestones(_Value, frozen=True, kw_only=True, omit_defaults=True):
    requested_at: int | None = None
    decided_at: int | None = None
    applied_at: int | None = None
    running_at: int | None = None


class WorkloadStatus(_Value, frozen=True, kw_only=True):
    namespace: str
    name: str
    uid: str = ""
    phase: Phase
    generation: int
    workload_generation: int = 0
    request_id: str = ""
    desired: int = 0
    ready: int = 0
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    pod_sets: tuple[PodSetStatus, ...] = ()
    clusters: tuple[ClusterStatus, ...] = ()
    milestones: Milestones = Milestones()
    step: int = 0
    updated_at: int

    def to_json(self) -> bytes:
        """The bytes that the message would have."""
        return _ENCODER.encode(self)

    def but(self, **changes: Any) -> WorkloadStatus:
        """The same but for some fields."""
        return msgspec.structs.replace(self, **changes)


_ENCODER: Final = msgspec.json.Encoder()
DECODER: Final = msgspec.json.Decoder(WorkloadStatus)
