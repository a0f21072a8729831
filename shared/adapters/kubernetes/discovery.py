"""Which resources a server has, from its discovery documents, one for each API group and version.

Documents are cached: what is there rarely goes. What is missing is asked for again, since a custom resource may have
been defined in between, but at most once in `REFRESH_S`, so that a kind that never comes costs little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from shared.model.identities import Resource
from shared.ports.cluster_api import ApiError, ResourceInfo

REFRESH_S: Final = 2.0
MAX_AGE_S: Final = 600.0
_NOT_FOUND: Final = 404


class _ApiResource(msgspec.Struct):
    name: str
    kind: str = ""
    namespaced: bool = False
    verbs: list[str] | None = None


class _ApiResourceList(msgspec.Struct):
    resources: list[_ApiResource] | None = None


@dataclass(frozen=True, slots=True)
class _Document:
    by_plural: Mapping[str, ResourceInfo]
    by_kind: Mapping[str, ResourceInfo]
    read_at: float


_EMPTY: Final = _Document({}, {}, 0.0)
_DECODER: Final = msgspec.json.Decoder(_ApiResourceList)


class Discovery:
    """`fetch(path)` answers with the body of a GET, or raises ApiError."""

    def __init__(self, fetch: Callable[[str], Awaitable[bytes]], clock: Callable[[], float] | None = None) -> None:
        """By the event loop's clock unless told."""
        self._fetch = fetch
        self._clock = clock or asyncio.get_running_loop().time
        self._documents: dict[tuple[str, str], _Document] = {}

    async def by_kind(self, api_version: str, kind: str) -> ResourceInfo:
        """Raises ApiError: 404 `KindNotServed`."""
        group, _, version = api_version.rpartition("/")
        found = self._cached(group, version).by_kind.get(kind)
        if found is None:
            found = (await self._read(group, version)).by_kind.get(kind)
        if found is None:
            raise ApiError(_NOT_FOUND, "KindNotServed", f"the server has no {kind} in {api_version}")
        return found

    async def by_resource(self, resource: Resource) -> ResourceInfo | None:
        found = self._cached(resource.group, resource.version).by_plural.get(resource.plural)
        if found is None:
            found = (await self._read(resource.group, resource.version)).by_plural.get(resource.plural)
        return found

    def _cached(self, group: str, version: str) -> _Document:
        document = self._documents.get((group, version), _EMPTY)
        return document if self._clock() - document.read_at < MAX_AGE_S else _EMPTY

    async def _read(self, group: str, version: str) -> _Document:
        known = self._documents.get((group, version))
        if known is not None and self._clock() - known.read_at < REFRESH_S:
            return known
        try:
            body = await self._fetch(Resource(group, version, "").path)
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise
            body = b"{}"
        document = _document(group, version, body, self._clock())
        self._documents[group, version] = document
        return document


def _document(group: str, version: str, body: bytes, now: float) -> _Document:
    try:
        entries = _DECODER.decode(body).resources or []
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(0, "Malformed", f"discovery of {group}/{version}: {error}") from error
    subresources: dict[str, set[str]] = {}
    for entry in entries:
        plural, slash, subresource = entry.name.partition("/")
        if slash:
            subresources.setdefault(plural, set()).add(subresource)
    infos = [
        ResourceInfo(
            Resource(group, version, entry.name),
            entry.kind,
            entry.namespaced,
            frozenset(entry.verbs or ()),
            frozenset(subresources.get(entry.name, ())),
        )
        for entry in entries
        if "/" not in entry.name
    ]
    return _Document({i.resource.plural: i for i in infos}, {i.kind: i for i in infos}, now)
