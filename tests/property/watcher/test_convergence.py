"""The watcher's promise, from the bytes of the API server to the compacted log, under everything that can go wrong.

A small API server in memory (versions, list pages, watch events, compaction) is read by the list-watch driver, whose
changes go to the watcher's machine, whose records go to a log. Hypothesis chooses what happens: objects come, change
and go; connections break at any byte; history is compacted away; the server refuses, restarts its lists, streams them
or does not; the watcher is killed with any part of its last batch sent. Once trouble ends, a reader of the log from its
start must end with exactly the objects that exist, and each incarnation's sequence must be contiguous.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.watcher.decision.instructions import Publish
from services.watcher.decision.mirror import ClusterMirror
from services.watcher.decision.stimuli import ChangesArrived, ResourcesChosen
from shared.adapters.kubernetes.driver import FetchPage, ListWatchDriver, ListWatchPolicy, OpenWatch, Pause
from shared.model.identities import Resource, is_object_key
from shared.ports.cluster_api import EVERYTHING, ApiError, Change

PODS = Resource("", "v1", "pods")
NAMES = ("a", "b", "c", "d")


@dataclass
class Server:
    """Objects at versions, and the events since `oldest`."""

    version: int = 1
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[tuple[int, bytes]] = field(default_factory=list)
    oldest: int = 0
    streams: bool = True
    snapshots: dict[str, tuple[int, list[dict[str, Any]]]] = field(default_factory=dict)

    def put(self, name: str) -> None:
        self.version += 1
        kind = "MODIFIED" if name in self.objects else "ADDED"
        uid = self.objects[name]["metadata"]["uid"] if name in self.objects else f"uid-{self.version}"
        meta = {"name": name, "namespace": "n", "uid": uid, "resourceVersion": str(self.version)}
        self.objects[name] = {"kind": "Pod", "apiVersion": "v1", "metadata": {**meta, "managedFields": [{}]}}
        self._note(kind, self.objects[name])

    def delete(self, name: str) -> None:
        if name in self.objects:
            self.version += 1
            gone = self.objects.pop(name)
            self._note("DELETED", {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}})

    def compact(self) -> None:
        self.oldest, self.events = self.version, []
        self.snapshots.clear()

    def page(self, token: str) -> bytes:
        """One object a page, to have many; raises ApiError 410 for a continuation that was compacted."""
        if token:
            key, _, number = token.rpartition(":")
            if key not in self.snapshots:
                raise ApiError(410, "Expired", "the continuation expired")
            version, items = self.snapshots[key]
            start = int(number)
        else:
            key, version, start = str(len(self.snapshots)) + f"@{self.version}", self.version, 0
            items = [dict(self.objects[name]) for name in sorted(self.objects)]
            self.snapshots[key] = (version, items)
        meta = {"resourceVersion": str(version)}
        if start + 1 < len(items):
            meta["continue"] = f"{key}:{start + 1}"
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": items[start : start + 1]}
        return json.dumps(body).encode()

    def watch(self, query: dict[str, str]) -> bytes:
        """All bytes that the watch would send now; raises ApiError."""
        if query.get("sendInitialEvents") == "true":
            if not self.streams:
                raise ApiError(422, "Invalid", "sendInitialEvents: Forbidden")
            lines = [_line("ADDED", self.objects[name]) for name in sorted(self.objects)]
            return b"".join([*lines, _bookmark(self.version, ends_list=True)])
        since = int(query["resourceVersion"])
        if since < self.oldest:
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            return _line("ERROR", status)
        return b"".join(line for version, line in self.events if version > since) + _bookmark(self.version)

    def _note(self, kind: str, obj: dict[str, Any]) -> None:
        self.events.append((self.version, _line(kind, obj)))


def _line(kind: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def _bookmark(version: int, *, ends_list: bool = False) -> bytes:
    meta: dict[str, Any] = {"resourceVersion": str(version)}
    if ends_list:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return _line("BOOKMARK", {"kind": "Pod", "metadata": meta})


class Run:
    """A watcher before a server and a log."""

    def __init__(self, *, streams: bool) -> None:
        self.server = Server(streams=streams)
        self.log: list[tuple[int, Publish]] = []
        self.epoch = 0
        self._start()

    def _start(self) -> None:
        """A new incarnation, which knows of earlier ones what the log has."""
        self.epoch += 1
        inherited = [key for key, value in self.final().items() if value is not None]
        self.mirror = ClusterMirror("west", self.epoch, 5000, inherited=inherited)
        self.driver = ListWatchDriver(
            lambda: 0.5, EVERYTHING, ListWatchPolicy(page_size=1, without_managed_fields=True)
        )
        self._send(self.mirror.handle(ResourcesChosen(id="0", at_ms=0, resources=frozenset({PODS}))))

    def kill(self, kept: int) -> None:
        """kill -9: of the last batch only the first `kept` records were sent."""
        batch = 0
        if self.log:
            epoch, newest = self.log[-1]
            batch = sum(of == epoch and publish.cause == newest.cause for of, publish in self.log)
        if kept < batch:
            del self.log[len(self.log) - batch + kept :]
        self._start()

    def step(self, cut: int, chunk: int) -> None:
        """One request; its answer breaks off after `cut` bytes, and comes `chunk` bytes at a time."""
        match self.driver.next_step():
            case Pause():
                return
            case FetchPage(query=query):
                self._feed(self._page(query.get("continue", ""), cut))
            case OpenWatch(query=query):
                self._watch(dict(query), cut, chunk)

    def _page(self, token: str, cut: int) -> list[Change]:
        try:
            body = self.server.page(token)
        except ApiError as error:
            return self.driver.failed(error)
        if cut < len(body):
            return self.driver.failed(ApiError(0, "Unreachable", "cut"))
        return self.driver.page_received(body)

    def _watch(self, query: dict[str, str], cut: int, chunk: int) -> None:
        try:
            body = self.server.watch(query)
        except ApiError as error:
            self._feed(self.driver.failed(error))
            return
        self._feed(self.driver.watch_opened())
        sent = body[:cut]
        for start in range(0, len(sent), chunk):
            self._feed(self.driver.data_received(sent[start : start + chunk]))
            if self.driver.finished:
                return
        broken = cut < len(body)
        self._feed(self.driver.failed(ApiError(0, "Unreachable", "cut")) if broken else self.driver.watch_closed(60))

    def _feed(self, changes: Sequence[Change]) -> None:
        if changes:
            stimulus = ChangesArrived(id=str(len(self.log)), at_ms=0, resource=PODS, changes=changes)
            self._send(self.mirror.handle(stimulus))

    def _send(self, published: Sequence[Publish]) -> None:
        self.log += [(self.epoch, publish) for publish in published]

    def final(self) -> dict[str, bytes | None]:
        return {publish.key.decode(): publish.value for _, publish in self.log}


ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES)),
    st.tuples(st.just("put"), st.sampled_from(NAMES)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("step"), st.tuples(st.integers(0, 700), st.integers(1, 400))),
    st.tuples(st.just("step"), st.tuples(st.just(1_000_000), st.integers(1, 400))),
    st.tuples(st.just("compact"), st.none()),
    st.tuples(st.just("kill"), st.integers(0, 6)),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=st.lists(ACTIONS, max_size=40), streams=st.booleans())
def test_the_log_ends_with_exactly_what_exists(actions: list[tuple[str, Any]], *, streams: bool) -> None:
    run = Run(streams=streams)
    for action, argument in actions:
        match action:
            case "put":
                run.server.put(argument)
            case "delete":
                run.server.delete(argument)
            case "step":
                run.step(*argument)
            case "compact":
                run.server.compact()
            case "kill":
                run.kill(argument)
    # The trouble is over: within a few requests, some of them pauses, all is well. (A list has a page for each object.)
    for _ in range(20):
        run.step(1_000_000, 1000)

    seen = {key: value for key, value in run.final().items() if value is not None and is_object_key(key)}
    versions = {key: json.loads(value)["metadata"]["resourceVersion"] for key, value in seen.items()}
    assert versions == {
        f"west/core/v1/pods/n/{name}": obj["metadata"]["resourceVersion"] for name, obj in run.server.objects.items()
    }
    assert not any(b"managedFields" in value for value in seen.values())
    for epoch in range(1, run.epoch + 1):
        sequence = [publish.seq for of, publish in run.log if of == epoch]
        assert sequence == list(range(len(sequence)))
