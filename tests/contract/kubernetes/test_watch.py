"""Watches: what is seen, in which order, and when a client has to list again."""

from __future__ import annotations

import pytest

from tests.contract.kubernetes.client import TABLE, Json, Kube
from tests.contract.kubernetes.objects import config_map, pod

pytestmark = pytest.mark.asyncio(loop_scope="session")

_MINE = {"labelSelector": "mine"}
_LABELS = {"mine": "1"}


async def _version(kube: Kube) -> str:
    listed = (await kube.get(kube.path("configmaps"))).ok()
    version: str = listed["metadata"]["resourceVersion"]
    return version


def _shape(events: list[Json]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


async def test_a_watch_from_a_version_sees_every_later_write_once(kube: Kube) -> None:
    path = kube.path("configmaps")
    version = await _version(kube)
    (await kube.post(path, config_map("early", labels=_LABELS))).ok()
    async with kube.watch(path, resourceVersion=version, timeoutSeconds=3, **_MINE) as watch:
        (await kube.post(path, config_map("late", labels=_LABELS))).ok()
        (await kube.patch(kube.path("configmaps", "late"), {"data": {"a": "2"}})).ok()
        (await kube.delete(kube.path("configmaps", "early"))).ok()
        events = await watch.rest()
    assert _shape(events) == [("ADDED", "early"), ("ADDED", "late"), ("MODIFIED", "late"), ("DELETED", "early")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert all(event["object"]["kind"] == "ConfigMap" for event in events)


async def test_without_a_version_a_watch_starts_with_what_exists(kube: Kube) -> None:
    path = kube.path("configmaps")
    (await kube.post(path, config_map("here", labels=_LABELS))).ok()
    async with kube.watch(path, timeoutSeconds=2, **_MINE) as watch:
        assert _shape(await watch.rest()) == [("ADDED", "here")]


async def test_a_streaming_list_ends_with_a_marked_bookmark(kube: Kube) -> None:
    path = kube.path("configmaps")
    for name in ("a", "b"):
        (await kube.post(path, config_map(name, labels=_LABELS))).ok()
    query: Json = {
        "sendInitialEvents": True,
        "allowWatchBookmarks": True,
        "resourceVersionMatch": "NotOlderThan",
        **_MINE,
    }
    async with kube.watch(path, **query) as watch:
        first = [await watch.next(), await watch.next()]
        assert sorted(_shape([event for event in first if event])) == [("ADDED", "a"), ("ADDED", "b")]
        marker = await watch.next()
        assert marker is not None
        assert marker["type"] == "BOOKMARK"
        assert marker["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(marker["object"]["metadata"]["resourceVersion"]) > 0
        (await kube.post(path, config_map("c", labels=_LABELS))).ok()
        assert (await watch.seen("ADDED", "c"))["object"]["data"] == {"a": "1"}


async def test_an_object_that_stops_matching_is_deleted_for_the_watcher(kube: Kube) -> None:
    path = kube.path("configmaps")
    version = await _version(kube)
    async with kube.watch(path, resourceVersion=version, timeoutSeconds=3, labelSelector="colour=red") as watch:
        (await kube.post(path, config_map("one", labels={"colour": "blue"}))).ok()
        for colour in ("red", "blue"):
            (await kube.patch(kube.path("configmaps", "one"), {"metadata": {"labels": {"colour": colour}}})).ok()
        events = await watch.rest()
    assert _shape(events) == [("ADDED", "one"), ("DELETED", "one")]


async def test_one_object_is_watched_by_its_name(kube: Kube) -> None:
    path = kube.path("configmaps")
    version = await _version(kube)
    query: Json = {"resourceVersion": version, "timeoutSeconds": 2, "fieldSelector": "metadata.name=one"}
    async with kube.watch(path, **query) as watch:
        (await kube.post(path, config_map("two"))).ok()
        (await kube.post(path, config_map("one"))).ok()
        assert _shape(await watch.rest()) == [("ADDED", "one")]


async def test_the_server_ends_a_watch_when_its_time_is_up(kube: Kube) -> None:
    async with kube.watch(kube.path("configmaps"), resourceVersion=await _version(kube), timeoutSeconds=1) as watch:
        assert await watch.rest(within=30) == []


async def test_initial_events_need_the_right_match(kube: Kube) -> None:
    answer = await kube.get(kube.path("configmaps"), watch=1, sendInitialEvents=True, timeoutSeconds=1)
    status = answer.refused(422, "Invalid")
    assert "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan" in status["message"]


async def test_a_table_is_watched_row_by_row(kube: Kube) -> None:
    (await kube.post(kube.path("pods"), pod("held", schedulerName="nobody"))).ok()
    async with kube.watch(kube.path("pods"), accept=TABLE, timeoutSeconds=2) as watch:
        event = await watch.next()
    assert event is not None
    assert event["object"]["kind"] == "Table"
    assert event["object"]["rows"][0]["cells"][0] == "held"
