"""Get, list and the start of a watch: which version of what a client sees.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts (resource versions, pagination). Earlier states are
rebuilt by undoing the events of the window, so that the pages of one list belong to one version.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from services.simulator.core.errors import bad_request, expired, gone_version, not_found, version_too_large
from services.simulator.core.meta import Key, labels_of
from services.simulator.core.resources import Resource
from services.simulator.core.selectors import (
    FieldTerm,
    LabelPredicate,
    check_fields,
    everything,
    matches_fields,
    parse_fields,
    parse_labels,
)
from services.simulator.core.state import ClusterState
from services.simulator.core.store import Collection, Event, Item


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list or watch is about."""

    namespace: str = ""
    labels: LabelPredicate = everything
    fields: tuple[FieldTerm, ...] = ()

    @property
    def trivial(self) -> bool:
        return self.labels is everything and not self.fields

    def matches(self, item: Item) -> bool:
        obj = item.object
        if self.namespace and obj["metadata"].get("namespace") != self.namespace:
            return False
        return self.labels(labels_of(obj)) and (not self.fields or matches_fields(self.fields, obj))

    def translate(self, event: Event) -> str | None:
        """How a watcher sees an event: an object that starts to match is added, one that stops is deleted."""
        now = event.type != "DELETED" and self.matches(event.item)
        before = event.previous is not None and self.matches(event.previous)
        if now:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else None


def make_filter(resource: Resource, namespace: str, labels: str, fields: str) -> Filter:
    terms = parse_fields(fields) if fields else ()
    if terms and (problem := check_fields(terms, resource.storage, resource.selectable)):
        raise problem
    return Filter(namespace, parse_labels(labels) if labels else everything, terms)


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Item]
    version: int
    token: str = ""
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class ListOptions:
    filter: Filter
    limit: int = 0
    token: str = ""
    version: str = ""
    match: str = ""

    @property
    def may_be_stale(self) -> bool:
        """Whether any version will do: what a watch cache may answer from an old state."""
        return self.version == "0" and not self.token


def parse_version(text: str) -> int:
    if not text.isdecimal():
        wrong = f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise bad_request(f"invalid resource version: resourceVersion: {wrong}")
    return int(text)


def get_item(state: ClusterState, resource: Resource, namespace: str, name: str) -> Item:
    item = state.store.collection(resource.storage).get(namespace, name)
    if item is None:
        raise not_found(resource, name)
    return item


def items_at(collection: Collection, namespace: str, version: int) -> list[Item]:
    """The objects as they were at a version, in order."""
    later = collection.since(version)
    if not later:
        return collection.in_namespace(namespace)
    if version < collection.oldest:
        raise gone_version(version, collection.oldest)
    items: dict[Key, Item] = dict(collection.items)
    for event in reversed(later):
        meta = event.item.object["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        if event.previous is None:
            items.pop(key, None)
        else:
            items[key] = event.previous
    return [items[key] for key in sorted(items) if not namespace or key[0] == namespace]


def _candidates(collection: Collection, wanted: Filter) -> Iterable[Item]:
    """The current objects that may match, by an index where there is one."""
    for path, equal, value in wanted.fields:
        if not equal:
            continue
        if collection.has_index(path):
            found = collection.indexed(path, value)
            return sorted(
                found, key=lambda item: (item.object["metadata"].get("namespace", ""), item.object["metadata"]["name"])
            )
        if path == "metadata.name" and wanted.namespace:
            one = collection.get(wanted.namespace, value)
            return [one] if one else []
    return collection.in_namespace(wanted.namespace)


def list_items(state: ClusterState, resource: Resource, options: ListOptions) -> Page:
    collection = state.store.collection(resource.storage)
    if options.token:
        return _continue(collection, options)
    wanted, version = options.filter, state.store.version
    if options.version and options.version != "0":
        asked = parse_version(options.version)
        if asked > version:
            raise version_too_large(asked, version)
        if options.match == "Exact":
            return _cut(_matching(items_at(collection, wanted.namespace, asked), wanted), asked, options)
    return _cut(_matching(_candidates(collection, wanted), wanted), version, options)


def _matching(items: Iterable[Item], wanted: Filter) -> Iterator[Item]:
    if wanted.trivial:
        return iter(items)
    return (item for item in items if wanted.matches(item))


def _cut(items: Iterator[Item], version: int, options: ListOptions) -> Page:
    if not options.limit:
        return Page(list(items), version)
    page = list(islice(items, options.limit))
    rest = sum(1 for _ in items)
    if not rest:
        return Page(page, version)
    meta = page[-1].object["metadata"]
    token = _write_token(version, (meta.get("namespace", ""), meta["name"]))
    return Page(page, version, token, rest if options.filter.trivial else None)


def _write_token(version: int, after: Key) -> str:
    return urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": list(after)})).decode()


def _read_token(token: str) -> tuple[int, Key]:
    try:
        content: Any = orjson.loads(urlsafe_b64decode(token))
        version, (namespace, name) = int(content["rv"]), content["start"]
    except (ValueError, KeyError, TypeError) as error:
        raise bad_request(f"invalid continue token: continue key is not valid: {token[:80]}") from error
    return version, (str(namespace), str(name))


def _continue(collection: Collection, options: ListOptions) -> Page:
    version, after = _read_token(options.token)
    if options.version and options.version != "0":
        raise bad_request("specifying resource version is not allowed when using continue")
    if version < collection.oldest and collection.since(version):
        raise expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
            "the results."
        )
    if not collection.since(version):
        items: Iterable[Item] = collection.page(options.filter.namespace, after)
    else:
        items = (
            item
            for item in items_at(collection, options.filter.namespace, version)
            if (item.object["metadata"].get("namespace", ""), item.object["metadata"]["name"]) > after
        )
    return _cut(_matching(items, options.filter), version, options)


def events_since(state: ClusterState, resource: Resource, version: int) -> list[Event]:
    """The events that a watch from a version has missed.

    Raises:
        ApiError: 410 if the window no longer reaches back so far, 504 if the version is of the future.
    """
    collection = state.store.collection(resource.storage)
    if version < collection.oldest:
        raise gone_version(version, collection.oldest)
    if version > state.store.version:
        raise version_too_large(version, state.store.version)
    return collection.since(version)
