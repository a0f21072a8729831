"""What is known of a workload at one look: its pods, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Container:
    """`requests` by resource, in thousandths. Init containers that restart count among a pod's containers."""

    name: str
    requests: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Pod:
    """`key` is its own in the whole fleet. `ready` is the status of its condition, empty where it has none.

    `own_requests` are those of the pod itself, with what its containers ask where it says nothing of a resource; None
    where it has none.
    """

    key: str
    phase: str
    containers: tuple[Container, ...] = ()
    own_requests: Mapping[str, int] | None = None
    deleting: bool = False
    ready: str = ""
    ready_since_ms: int = 0
    started_ms: int | None = None

    @property
    def counts(self) -> bool:
        """Whether it runs and is ready."""
        return self.phase == "Running" and self.ready == "True"


@dataclass(frozen=True, slots=True)
class Sample:
    """A value in thousandths, as of a moment, over the window before it."""

    milli: int
    at_ms: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class PodSamples:
    """By the pod's key."""

    samples: Mapping[str, Sample]


@dataclass(frozen=True, slots=True)
class Values:
    """Of an object, which is one value, or of an external metric, whose series are added up; in thousandths."""

    milli: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """Why there is no value."""

    message: str


Reading = PodSamples | Values | Unmeasured


@dataclass(frozen=True, slots=True)
class Seen:
    """`asked` is how many replicas are asked for now, `there` how many there are; a reading for each metric."""

    asked: int
    there: int
    pods: tuple[Pod, ...] = ()
    readings: tuple[Reading, ...] = field(default=())
