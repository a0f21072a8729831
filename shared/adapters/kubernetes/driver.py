"""List and watch as a protocol without I/O: what to ask for next, and what an answer means.

The driver is fed with answers and says which request comes next; `reflector.py` carries the requests. So every way in
which an API server can fail is a test without a server. What it keeps:

- A watch begins at the resource version where the list ended, or where the last event or bookmark stood: nothing is
  skipped, whatever breaks in between.
- 410 (as a status or an ERROR event) means that this place is gone: the next request is a list. So does a version that
  the server does not know (a restored backup).
- A list that breaks begins again; a page whose continuation has expired makes the next list come in one piece, so that
  a list which takes longer than the server keeps versions still ends.
- Streamed lists (KEP-3157) are used until the server refuses them, or takes the parameters and says nothing.
- Each failure waits longer than the one before, up to a limit, with full jitter, and progress resets it. What only a
  person can heal (401, 403, 404) is retried at the limit: a custom resource may be defined later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from shared.adapters.kubernetes.decoding import (
    MalformedError,
    decode_bookmark,
    decode_change,
    decode_event,
    decode_object,
    decode_page,
)
from shared.adapters.kubernetes.errors import VERSION_TOO_LARGE, status_error
from shared.adapters.kubernetes.lines import LineSplitter, LineTooLongError
from shared.ports.cluster_api import EVERYTHING, ApiError, Change, ChangeType, Selection

GONE: Final = 410
# What no retry heals soon, so that it is asked for rarely.
_STUBBORN: Final = frozenset({401, 403, 404})
# The place in the watch means nothing any more: it is gone, or the resource is, or the server does not understand it.
_PLACE_LOST: Final = frozenset({400, 404, GONE, 422})
# How servers answer that do not stream lists: forbidden by a feature gate (422), not understood (400), not built.
_NO_STREAMED_LISTS: Final = frozenset({400, 405, 422, 501})
_CHANGES: Final[Mapping[str, ChangeType]] = {
    "ADDED": ChangeType.ADDED,
    "MODIFIED": ChangeType.MODIFIED,
    "DELETED": ChangeType.DELETED,
}


@dataclass(frozen=True, slots=True)
class ListWatchPolicy:
    """How long and how often. All times in seconds."""

    page_size: int = 500
    page_deadline_s: float = 60.0
    # The server ends a watch after this time, spread by a tenth so that many watches do not end at once.
    watch_timeout_s: float = 290.0
    # A real server sends a bookmark each minute: a connection that is silent for longer is dead or lost.
    silence_s: float = 100.0
    # A streamed list that does not begin: the server knows the parameters no more than it says.
    streamed_list_silence_s: float = 15.0
    # A streamed list that does not end: a busy resource on a server that ignores the parameters looks just so.
    streamed_list_deadline_s: float = 120.0
    # A watch that ended sooner, and without an event, was no success.
    short_watch_s: float = 5.0
    backoff_base_s: float = 0.5
    backoff_max_s: float = 30.0
    streamed_lists: bool = True
    # Objects come without `metadata.managedFields`.
    without_managed_fields: bool = False


@dataclass(frozen=True, slots=True)
class FetchPage:
    query: Mapping[str, str]
    deadline_s: float


@dataclass(frozen=True, slots=True)
class OpenWatch:
    """Watch; give up when nothing arrives for `silence_s`, or the driver is still `listing` after `list_deadline_s`."""

    query: Mapping[str, str]
    silence_s: float
    list_deadline_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Step = FetchPage | OpenWatch | Pause


class _Phase(Enum):
    LIST = auto()
    STREAMED_LIST = auto()
    WATCH = auto()


class ListWatchDriver:
    """Ask `next_step`, carry it out, and report by exactly one of the other methods; `finished` ends a watch early."""

    def __init__(
        self,
        random: Callable[[], float],
        selection: Selection = EVERYTHING,
        policy: ListWatchPolicy = ListWatchPolicy(),
    ) -> None:
        self._random = random
        self._policy = policy
        self._selection = _selection_query(selection)
        self._streams = policy.streamed_lists
        self._phase = _Phase.STREAMED_LIST if self._streams else _Phase.LIST
        self._paged = True
        self._continue = ""
        self._version = ""
        self._failures = 0
        self._pause = 0.0
        self._interrupted = False
        self._progressed = False
        self._splitter = LineSplitter()
        self.finished = False

    @property
    def listing(self) -> bool:
        """Whether the open watch is still a streamed list."""
        return self._phase is _Phase.STREAMED_LIST

    # What to do next

    def next_step(self) -> Step:
        if self._pause > 0:
            pause, self._pause = Pause(self._pause), 0.0
            return pause
        if self._phase is _Phase.LIST:
            return FetchPage(self._list_query(), self._policy.page_deadline_s)
        self._splitter = LineSplitter()
        self._progressed = self.finished = False
        policy = self._policy
        silence = min(policy.streamed_list_silence_s, policy.silence_s) if self.listing else policy.silence_s
        return OpenWatch(self._watch_query(), silence, policy.streamed_list_deadline_s)

    def _list_query(self) -> dict[str, str]:
        query = dict(self._selection)
        if self._paged:
            query["limit"] = str(self._policy.page_size)
        if self._continue:
            query["continue"] = self._continue
        return query

    def _watch_query(self) -> dict[str, str]:
        timeout = self._policy.watch_timeout_s * (0.9 + 0.2 * self._random())
        query = self._selection | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(timeout))),
        }
        if self.listing:
            return query | {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        return query | {"resourceVersion": self._version}

    # What came back

    def page_received(self, body: bytes) -> list[Change]:
        """A page of a list, with status 200."""
        try:
            page = decode_page(body)
            listed = [self._object(ChangeType.LISTED, raw) for raw in page.items]
        except MalformedError as error:
            return self.failed(ApiError(0, "Malformed", str(error)))
        changes = [] if self._continue else [Change(ChangeType.SYNC_STARTED, page.resource_version)]
        changes += listed
        self._continue = page.continue_token
        if not page.continue_token:
            changes.append(self._synced(page.resource_version))
        return changes

    def watch_opened(self) -> list[Change]:
        """The watch was answered with status 200; what it says comes by `data_received`."""
        if self.listing:
            return [Change(ChangeType.SYNC_STARTED, "")]
        if self._interrupted:
            self._interrupted = False
            return [Change(ChangeType.RESUMED, self._version)]
        return []

    def data_received(self, chunk: bytes) -> list[Change]:
        """Some bytes of the watch. Once `finished` is set, the rest is of no interest."""
        changes: list[Change] = []
        try:
            for line in self._splitter.feed(chunk):
                self._event(line, changes)
                if self.finished:
                    break
        except (MalformedError, LineTooLongError) as error:
            # Its place is known, so a new watch may read it better; if it does not, the pauses grow.
            self.finished = True
            changes += self.failed(ApiError(0, "Malformed", str(error)))
        return changes

    def watch_closed(self, lasted_s: float) -> list[Change]:
        """The watch ended as it should: by the server, after `lasted_s` seconds. Not after `finished`."""
        if self.listing:
            return self.failed(ApiError(0, "Unreachable", "the streamed list ended before it was complete"))
        if lasted_s >= self._policy.short_watch_s:
            self._failures = 0
        elif not self._progressed:
            self._back_off()
        return []

    def watch_silent(self) -> list[Change]:
        """Nothing arrived for the watch's `silence_s`, or the streamed list missed its deadline."""
        if self.listing:
            self._streams = False
            return self.failed(ApiError(0, "Timeout", "the streamed list did not end"))
        # No failure: a quiet resource on a server without bookmarks looks just so. Silence bounds how often.
        self._failures = 0
        return []

    def failed(self, error: ApiError) -> list[Change]:
        """A request was refused, broke, or never got an answer."""
        if self.listing and error.code in _NO_STREAMED_LISTS:
            self._streams = False
            self._phase = _Phase.LIST
            return []
        if self._continue and error.code == GONE:
            self._paged = False
        lost = error.code in _PLACE_LOST or error.reason == VERSION_TOO_LARGE
        if self._phase is not _Phase.WATCH or lost:
            self._relist()
        self._back_off(error)
        if error.code == GONE:
            return []
        self._interrupted = True
        return [Change(ChangeType.INTERRUPTED, self._version, error=error)]

    # Inside

    def _event(self, line: bytes, changes: list[Change]) -> None:
        change = decode_change(line, listing=self.listing, without_managed_fields=self._policy.without_managed_fields)
        if change is not None:
            self._changed(change, changes)
            return
        # Another kind of event, written in another way, or malformed: the general way tells.
        event = decode_event(line)
        kind = _CHANGES.get(event.type)
        raw = bytes(event.object)
        if kind is not None:
            self._changed(self._object(self._listed(kind), raw), changes)
        elif event.type == "BOOKMARK":
            self._bookmark(raw, changes)
        elif event.type == "ERROR":
            self.finished = True
            changes += self.failed(status_error(raw))
        else:
            raise MalformedError(f"no known event: {event.type[:40]!r}")

    def _changed(self, change: Change, changes: list[Change]) -> None:
        self._version = change.resource_version or self._version
        self._progress()
        changes.append(change)

    def _object(self, kind: ChangeType, raw: bytes) -> Change:
        return decode_object(kind, raw, without_managed_fields=self._policy.without_managed_fields)

    def _listed(self, kind: ChangeType) -> ChangeType:
        """Within a streamed list, what is there is listed, whether it was or has just become so."""
        return ChangeType.LISTED if self.listing and kind is not ChangeType.DELETED else kind

    def _bookmark(self, raw: bytes, changes: list[Change]) -> None:
        version, ends_list = decode_bookmark(raw)
        if not self.listing:
            self._version = version or self._version
            self._progress()
            changes.append(Change(ChangeType.BOOKMARK, version))
        elif ends_list:
            changes.append(self._synced(version))

    def _synced(self, version: str) -> Change:
        self._phase = _Phase.WATCH
        self._version = version
        self._continue = ""
        self._paged = True
        self._interrupted = False
        return Change(ChangeType.SYNC_FINISHED, version)

    def _progress(self) -> None:
        """Only a watch that says something resets the pauses: a list that each watch answers with 410 does not."""
        self._progressed = True
        if self._phase is _Phase.WATCH:
            self._failures = 0

    def _relist(self) -> None:
        self._phase = _Phase.STREAMED_LIST if self._streams else _Phase.LIST
        self._continue = self._version = ""

    def _back_off(self, error: ApiError | None = None) -> None:
        """Full jitter over an exponentially growing span; never sooner than the server asked for."""
        policy = self._policy
        self._failures += 1
        span = min(policy.backoff_max_s, policy.backoff_base_s * 2.0 ** min(self._failures - 1, 16))
        pause = span * self._random()
        if error is not None and error.code in _STUBBORN:
            pause = policy.backoff_max_s * (0.5 + 0.5 * self._random())
        if error is not None and error.retry_after_s is not None:
            pause = max(pause, error.retry_after_s)
        self._pause = pause


def _selection_query(selection: Selection) -> dict[str, str]:
    query = {"labelSelector": selection.labels, "fieldSelector": selection.fields}
    return {name: value for name, value in query.items() if value}
