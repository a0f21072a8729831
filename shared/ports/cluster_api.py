"""One cluster's Kubernetes API, as far as agents and hub use it.

Objects are plain JSON. Every call has a deadline; what the server answers with an error status is raised as
`ApiError`, so that a caller sees reason, code and `Retry-After` without knowing the transport.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from shared.model.identities import Resource

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ResourceInfo:
    """What discovery says of a resource."""

    resource: Resource
    kind: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()
    subresources: frozenset[str] = frozenset()


class ApiError(Exception):
    """The API server answered with an error status, or not at all (code 0, reason `Unreachable` or `Timeout`)."""

    def __init__(self, code: int, reason: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """Whether the same call may go through later: conflicts, throttling, server and network errors."""
        return self.code in {0, 408, 409, 425, 429} or self.code >= 500  # noqa: PLR2004 - HTTP status classes


class ChangeType(StrEnum):
    SYNC_STARTED = "SYNC_STARTED"  # a list begins
    LISTED = "LISTED"  # one object of a list
    SYNC_FINISHED = "SYNC_FINISHED"  # the list ended; what it did not name does not exist
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    INTERRUPTED = "INTERRUPTED"  # the stream broke, `error` says why; it is being tried again
    RESUMED = "RESUMED"  # the watch goes on where it was interrupted; nothing was missed


@dataclass(frozen=True, slots=True)
class Change:
    """One step of list and watch. `raw` is the object's JSON (empty for markers and bookmarks).

    Between `SYNC_STARTED` and `SYNC_FINISHED` stand the objects of a list, and with a streamed list whatever happened
    to them meanwhile. A list that breaks begins again with another `SYNC_STARTED`; only `SYNC_FINISHED` says that what
    was not named does not exist. `INTERRUPTED` is followed by `RESUMED` or `SYNC_STARTED`, or comes again.
    """

    type: ChangeType
    resource_version: str
    namespace: str = ""
    name: str = ""
    raw: bytes = b""
    uid: str = ""
    error: ApiError | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a resource: empty selects all."""

    namespace: str = ""
    labels: str = ""
    fields: str = ""


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    manager: str
    force: bool = True
    subresource: str = ""
    dry_run: bool = False
    query: Mapping[str, str] = field(default_factory=dict)


class ClusterApi(Protocol):
    """A connection to one API server."""

    @property
    def server(self) -> str: ...

    async def version(self) -> str:
        """The server's git version, such as v1.36.3."""

    async def resource_info(self, api_version: str, kind: str) -> ResourceInfo:
        """The resource of a kind, from discovery (cached, refreshed once when missing).

        Raises:
            ApiError: 404 `KindNotServed` if the server does not have it.
        """

    async def discover(self, resource: Resource) -> ResourceInfo | None:
        """What discovery says of a resource; None if the server does not serve it."""

    def list_watch(self, resource: Resource, selection: Selection = EVERYTHING) -> AsyncIterator[Change]:
        """Lists, then watches, without end: relists on 410, reconnects with back-off, by the watcher's contract.

        Only errors that time cannot heal end it (401, 403 and 404 are retried too, at the longest back-off).
        """

    def list_watch_batches(
        self, resource: Resource, selection: Selection = EVERYTHING
    ) -> AsyncGenerator[Sequence[Change], None]:
        """The same, in the portions in which they arrived: for those who handle thousands a second."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object: ...

    async def list(self, resource: Resource, selection: Selection = EVERYTHING) -> Sequence[Object]: ...

    async def read(self, path: str, query: Mapping[str, str]) -> Object:
        """GET of what is no resource: discovery documents, and APIs whose paths name metrics."""

    async def create(
        self, resource: Resource, namespace: str, body: Object, *, subresource: str = "", name: str = ""
    ) -> Object:
        """POST; with `subresource` and `name` for bindings and evictions."""

    async def apply(self, resource: Resource, namespace: str, name: str, body: Object, options: ApplyOptions) -> Object:
        """Server-side apply."""

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, body: Object, *, subresource: str = ""
    ) -> Object: ...

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        """PUT, with the resource version in the body as the precondition."""

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        propagation: str = "Background",
        grace_period_s: int | None = None,
    ) -> None:
        """Deletes; what is already gone is no error. With `uid` only that very object (409 otherwise)."""

    async def close(self) -> None: ...
