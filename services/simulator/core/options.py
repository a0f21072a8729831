"""The options of a write, as its query parameters give them."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.simulator.core.meta import Json
from services.simulator.core.store import Item


@dataclass(frozen=True, slots=True)
class WriteOptions:
    manager: str = "unknown"
    dry_run: bool = False
    force: bool = False
    validation: str = "Warn"
    """Strict, Warn or Ignore: what happens to unknown fields."""


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    dry_run: bool = False
    grace_seconds: int | None = None
    propagation: str | None = None
    orphan: bool | None = None
    """The deprecated `orphanDependents`."""
    uid: str | None = None
    resource_version: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a write: the stored (or with dry run, the would-be) version."""

    item: Item
    created: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Deleted:
    """The result of a delete: gone (a Status is answered), or on its way (the object is)."""

    object: Json
    gone: bool
