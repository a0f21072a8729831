"""The few fields of an object that listing and watching need, read straight from the bytes.

msgspec reads name, namespace, uid and resource version and skips the rest, still checking that it is JSON; the
object itself travels on as the bytes that the server wrote. Items of a list have no kind and API version (the server
leaves them to the list's); they get them here, so that one object looks alike however it came.

An event is read in one pass: what its line begins with is always the same, so the object is what stands between that
and the last brace, and reading it finds out if it is not.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shared.adapters.kubernetes.managed_fields import drop_managed_fields
from shared.ports.cluster_api import Change, ChangeType

_MODIFIED, _ADDED, _DELETED = (b'{"type":"%s","object":' % kind for kind in (b"MODIFIED", b"ADDED", b"DELETED"))
# How the lines of events begin, most frequent first, and what they mean in a watch and in a streamed list.
_IN_WATCH: Final = (
    (_MODIFIED, ChangeType.MODIFIED),
    (_ADDED, ChangeType.ADDED),
    (_DELETED, ChangeType.DELETED),
)
_IN_LIST: Final = ((_ADDED, ChangeType.LISTED), (_MODIFIED, ChangeType.LISTED), (_DELETED, ChangeType.DELETED))
INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"


class MalformedError(ValueError):
    """The server sent what is no list or no watch event."""


class Meta(msgspec.Struct, gc=False, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    managed_fields: msgspec.Raw = msgspec.Raw()


class Head(msgspec.Struct, gc=False, rename="camel"):
    metadata: Meta
    kind: str = ""
    api_version: str = ""


class Event(msgspec.Struct, gc=False):
    """`object` is still raw: its shape depends on `type`."""

    type: str
    object: msgspec.Raw


class _BookmarkMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Bookmark(msgspec.Struct):
    metadata: _BookmarkMeta


class _ListMeta(msgspec.Struct, rename={"resource_version": "resourceVersion", "cont": "continue"}):
    resource_version: str = ""
    cont: str = ""


class _Page(msgspec.Struct, rename="camel"):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None
    kind: str = ""
    api_version: str = ""


class ListPage(msgspec.Struct, gc=False):
    """One page of a list: its objects, whole; where the list goes on; the list's resource version."""

    items: list[bytes]
    continue_token: str
    resource_version: str


_EVENT: Final = msgspec.json.Decoder(Event)
_HEAD: Final = msgspec.json.Decoder(Head)
_BOOKMARK: Final = msgspec.json.Decoder(_Bookmark)
_PAGE: Final = msgspec.json.Decoder(_Page)


def decode_change(line: bytes, *, listing: bool, without_managed_fields: bool) -> Change | None:
    """A change from a line that looks like one at both ends; None if it does not, or turns out to be something else."""
    for prefix, kind in _IN_LIST if listing else _IN_WATCH:
        if line.startswith(prefix) and line.endswith(b"}"):
            raw = line[len(prefix) : -1]
            try:
                meta = _HEAD.decode(raw).metadata
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
            if without_managed_fields:
                raw = drop_managed_fields(raw, bytes(meta.managed_fields))
            return Change(kind, meta.resource_version, meta.namespace, meta.name, raw, meta.uid)
    return None


def decode_event(line: bytes) -> Event:
    """Raises MalformedError."""
    try:
        return _EVENT.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"no watch event: {error}") from error


def decode_object(change: ChangeType, raw: bytes, *, without_managed_fields: bool = False) -> Change:
    """An object as a change. Raises MalformedError."""
    try:
        meta = _HEAD.decode(raw).metadata
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"no object: {error}") from error
    if without_managed_fields:
        raw = drop_managed_fields(raw, bytes(meta.managed_fields))
    return Change(change, meta.resource_version, meta.namespace, meta.name, raw, meta.uid)


def decode_bookmark(raw: bytes | msgspec.Raw) -> tuple[str, bool]:
    """A bookmark's resource version, and whether it ends the initial events. Raises MalformedError."""
    try:
        meta = _BOOKMARK.decode(raw).metadata
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"no bookmark: {error}") from error
    return meta.resource_version, (meta.annotations or {}).get(INITIAL_EVENTS_END) == "true"


def decode_page(body: bytes) -> ListPage:
    """Raises MalformedError."""
    try:
        page = _PAGE.decode(body)
        prefix = _type_prefix(page.kind, page.api_version)
        items = [_typed(bytes(item), prefix) for item in page.items or ()]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"no list: {error}") from error
    return ListPage(items, page.metadata.cont, page.metadata.resource_version)


def _type_prefix(kind: str, api_version: str) -> bytes:
    """`{"kind":…,"apiVersion":…,` for the items of a list of this kind; empty if the list does not say."""
    if not kind.endswith("List") or not api_version:
        return b""
    head = msgspec.json.encode({"kind": kind.removesuffix("List"), "apiVersion": api_version})
    return head[:-1] + b","


def _typed(item: bytes, prefix: bytes) -> bytes:
    if not prefix:
        return item
    head = _HEAD.decode(item)
    if head.kind or head.api_version:
        return item
    # An object has metadata, or decoding had failed: so what follows the brace is never the closing one.
    return prefix + item[1:].lstrip()
