"""What the reconciler of a cluster wants done.

Calls of one turn are independent of each other and may be carried out side by side; each is answered by
`CallReturned`. Every call is idempotent: done twice, or after a crash, it changes nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.executor.decision.identity import Feed, ObjectId, ServedKind
from shared.events.v1.results import CommandReported
from shared.kernel.machine import Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch(Instruction):
    """List and watch this from now on."""

    feed: Feed
    served: ServedKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake(Instruction):
    """Give the subject a turn at this time, or at once if it has passed."""

    subject: str
    at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Instruction):
    report: CommandReported
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Instruction):
    """A request to the API server, on behalf of a subject, about one object."""

    subject: str
    target: ObjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply(Call):
    """Server-side apply of `body`, forced. Creates what is not there. `shape` names the content."""

    api_version: str
    body: dict[str, Any]
    shape: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNamespace(Call):
    """Server-side apply of a namespace with nothing but its name, so that one that exists is left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotate(Call):
    """Merge patch of a namespace's annotations, which remember what no other object can; None removes one."""

    annotations: dict[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind(Call):
    """POST of a pod's binding, for the pod with this uid only."""

    uid: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp(Call):
    """Merge patch of an object's annotations: raises the fence where nothing needs to be applied."""

    annotations: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Call):
    """Background deletion of the object with this uid only; `at_once` without a grace period."""

    uid: str
    at_once: bool = False
