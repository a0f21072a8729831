"""One resource of a cluster as the log has it: which objects, in which version, and whether that is up to date."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from services.watcher.decision.stimuli import Failure
from shared.model.identities import ObjectKey, Resource

NOT_FOUND: Final = 404
# A key that an earlier incarnation published, in a version that nobody remembers.
UNKNOWN_VERSION: Final = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Since when (Unix milliseconds) a resource may be behind, and why."""

    since_ms: int
    reason: str
    message: str = ""


class ResourceMirror:
    """`known` maps `namespace/name` to the version that was published last, or to UNKNOWN_VERSION.

    `listed` is what the list under way has named so far, None outside of a list. `position` is the resource version up
    to which the watch has told everything. `deleted` is what it said to be deleted since an audit began, and at which
    version; None outside of an audit.
    """

    __slots__ = ("deleted", "known", "listed", "missing", "position", "prefix", "resource", "synced", "trouble")

    def __init__(self, cluster: str, resource: Resource, inherited: Iterable[str] = ()) -> None:
        self.resource = resource
        self.prefix = resource_prefix(cluster, resource)
        self.known: dict[str, str] = dict.fromkeys(inherited, UNKNOWN_VERSION)
        self.listed: set[str] | None = None
        self.synced = False
        self.trouble: Trouble | None = None
        self.position = ""
        self.deleted: dict[str, str] | None = None
        # How often in a row the server said that it does not have this resource.
        self.missing = 0

    def key(self, name: str) -> bytes:
        return f"{self.prefix}{name}".encode()

    def start_list(self, at_ms: int) -> None:
        self.listed = set()
        # The list under way will show whatever an audit could.
        self.deleted = None
        self.missing = 0
        self.be_troubled(at_ms, "Syncing", "")

    def finish_list(self) -> list[str]:
        """What is known and was not named: it vanished while nobody watched. It is forgotten here."""
        listed = self.listed if self.listed is not None else set()
        vanished = [name for name in self.known if name not in listed]
        for name in vanished:
            del self.known[name]
        self.listed = None
        self.synced = True
        self.trouble = None
        return vanished

    def interrupt(self, at_ms: int, failure: Failure) -> None:
        self.missing = self.missing + 1 if failure.code == NOT_FOUND else 0
        self.be_troubled(at_ms, failure.reason, failure.message)

    def be_troubled(self, at_ms: int, reason: str, message: str) -> None:
        """Keeps the time at which the trouble began, with the newest reason."""
        since = self.trouble.since_ms if self.trouble else at_ms
        self.trouble = Trouble(since, reason, message)

    def advance(self, version: str) -> None:
        """The watch, or a complete list, has told everything up to this version."""
        if self.listed is None and version:
            self.position = version

    @property
    def is_absent(self) -> bool:
        """Whether the server does not serve this resource, so that none of its objects can exist.

        Only of an API group that comes and goes: pods cannot be undefined, so a server that denies them is not itself.
        One answer may come from a server that is just starting; before objects are given up there must be a second.
        """
        return bool(self.resource.group) and self.missing > (1 if self.known else 0)


def resource_prefix(cluster: str, resource: Resource) -> str:
    """What the keys of a resource's objects begin with in `fleet.objects`."""
    return str(ObjectKey(cluster, resource, "-", ""))[: -len("-/")]
