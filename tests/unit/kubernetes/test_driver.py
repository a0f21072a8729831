"""Every way in which a list and watch can go, without a server."""

from __future__ import annotations

import json

import pytest

from shared.adapters.kubernetes.driver import FetchPage, ListWatchDriver, ListWatchPolicy, OpenWatch, Pause
from shared.ports.cluster_api import EVERYTHING, ApiError, Change, ChangeType, Selection
from tests.unit.kubernetes.builders import bookmark, event, page, pod, status

PAGED = ListWatchPolicy(streamed_lists=False)
STREAMED = ListWatchPolicy()
GONE = ApiError(410, "Expired", "too old resource version")
UNREACHABLE = ApiError(0, "Unreachable", "connection refused")


def make(policy: ListWatchPolicy = PAGED, random: float = 1.0, selection: Selection = EVERYTHING) -> ListWatchDriver:
    return ListWatchDriver(lambda: random, selection, policy)


def watching(policy: ListWatchPolicy = PAGED, random: float = 1.0) -> ListWatchDriver:
    """A driver whose list at version 10 ended, with an open watch."""
    driver = make(policy, random)
    if policy.streamed_lists:
        opened(driver)
        driver.data_received(bookmark(10, ends_list=True))
        return driver
    fetching(driver)
    driver.page_received(page(pod("a", 3), version=10))
    opened(driver)
    return driver


def fetching(driver: ListWatchDriver) -> dict[str, str]:
    step = driver.next_step()
    assert isinstance(step, FetchPage)
    return dict(step.query)


def opened(driver: ListWatchDriver) -> dict[str, str]:
    step = driver.next_step()
    assert isinstance(step, OpenWatch)
    driver.watch_opened()
    return dict(step.query)


def pause(driver: ListWatchDriver) -> float:
    step = driver.next_step()
    assert isinstance(step, Pause), step
    return step.seconds


def kinds(changes: list[Change]) -> list[str]:
    return [change.type.value for change in changes]


# Listing


def test_lists_page_by_page_and_watches_from_there() -> None:
    driver = make(selection=Selection(labels="app=web", fields="spec.nodeName=n"))
    selectors = {"labelSelector": "app=web", "fieldSelector": "spec.nodeName=n"}

    assert fetching(driver) == {**selectors, "limit": "500"}
    first = driver.page_received(page(pod("a", 3), pod("b", 4), version=10, cont="token"))
    assert fetching(driver) == {**selectors, "limit": "500", "continue": "token"}
    second = driver.page_received(page(pod("c", 5), version=10))
    watch = opened(driver)

    assert kinds(first + second) == ["SYNC_STARTED", "LISTED", "LISTED", "LISTED", "SYNC_FINISHED"]
    assert second[-1].resource_version == "10"
    assert watch["resourceVersion"] == "10"
    assert watch["allowWatchBookmarks"] == "true"
    assert watch["labelSelector"] == "app=web"


def test_listed_items_get_the_kind_that_the_list_has() -> None:
    driver = make()
    fetching(driver)
    _, listed, _ = driver.page_received(page(pod("a", 3), version=10))

    assert json.loads(listed.raw) == pod("a", 3)
    assert (listed.namespace, listed.name, listed.uid, listed.resource_version) == ("shop", "a", "uid-a", "3")


def test_an_empty_list_is_a_list() -> None:
    driver = make()
    fetching(driver)
    body = b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":null}'

    assert kinds(driver.page_received(body)) == ["SYNC_STARTED", "SYNC_FINISHED"]
    assert opened(driver)["resourceVersion"] == "7"


def test_an_expired_continuation_starts_the_list_anew_in_one_piece() -> None:
    driver = make()
    fetching(driver)
    driver.page_received(page(pod("a", 3), version=10, cont="token"))
    fetching(driver)

    assert driver.failed(GONE) == []
    pause(driver)
    assert fetching(driver) == {}
    changes = driver.page_received(page(pod("a", 3), pod("b", 4), version=12))
    assert kinds(changes) == ["SYNC_STARTED", "LISTED", "LISTED", "SYNC_FINISHED"]


def test_a_list_that_breaks_starts_anew_with_a_pause() -> None:
    driver = make()
    fetching(driver)
    driver.page_received(page(pod("a", 3), version=10, cont="token"))
    fetching(driver)

    (interrupted,) = driver.failed(UNREACHABLE)
    assert interrupted.type is ChangeType.INTERRUPTED
    assert interrupted.error is UNREACHABLE
    assert pause(driver) > 0
    assert fetching(driver) == {"limit": "500"}
    assert kinds(driver.page_received(page(version=11))) == ["SYNC_STARTED", "SYNC_FINISHED"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"items":[]}', b'{"metadata":{},"items":[{"spec":{}}]}'])
def test_what_is_no_list_interrupts(body: bytes) -> None:
    driver = make()
    fetching(driver)

    (interrupted,) = driver.page_received(body)

    assert interrupted.error is not None
    assert interrupted.error.reason == "Malformed"
    pause(driver)
    fetching(driver)


# Streamed lists


def test_a_streamed_list_ends_with_its_bookmark_and_becomes_the_watch() -> None:
    driver = make(STREAMED)
    step = driver.next_step()
    assert isinstance(step, OpenWatch)
    assert step.query["sendInitialEvents"] == "true"
    assert step.query["resourceVersionMatch"] == "NotOlderThan"
    assert "resourceVersion" not in step.query

    changes = driver.watch_opened()
    changes += driver.data_received(event("ADDED", pod("a", 3)) + event("ADDED", pod("b", 4)))
    assert driver.listing
    changes += driver.data_received(bookmark(10, ends_list=True) + event("MODIFIED", pod("a", 11)))

    assert kinds(changes) == ["SYNC_STARTED", "LISTED", "LISTED", "SYNC_FINISHED", "MODIFIED"]
    assert changes[3].resource_version == "10"
    assert not driver.listing
    assert driver.watch_closed(100) == []
    assert opened(driver)["resourceVersion"] == "11"


def test_what_happens_during_a_streamed_list_belongs_to_it() -> None:
    driver = make(STREAMED)
    opened(driver)
    data = event("ADDED", pod("a", 3)) + event("MODIFIED", pod("a", 5)) + event("DELETED", pod("a", 6))
    changes = driver.data_received(data + bookmark(10) + bookmark(11, ends_list=True))

    assert kinds(changes) == ["LISTED", "LISTED", "DELETED", "SYNC_FINISHED"]


@pytest.mark.parametrize("code", [400, 405, 422, 501])
def test_a_server_that_refuses_to_stream_is_listed_at_once(code: int) -> None:
    driver = make(STREAMED)
    opened(driver)

    assert driver.failed(ApiError(code, "Invalid", "sendInitialEvents: Forbidden")) == []
    assert fetching(driver) == {"limit": "500"}
    driver.page_received(page(version=10))
    assert opened(driver)["resourceVersion"] == "10"
    driver.failed(GONE)
    pause(driver)
    fetching(driver)  # and it is not asked to stream again


def test_a_server_that_ignores_the_parameters_is_listed_when_it_falls_silent() -> None:
    driver = make(STREAMED)
    step = driver.next_step()
    assert isinstance(step, OpenWatch)
    assert step.silence_s == STREAMED.streamed_list_silence_s
    driver.watch_opened()
    driver.data_received(event("ADDED", pod("a", 3)))

    assert kinds(driver.watch_silent()) == ["INTERRUPTED"]
    pause(driver)
    assert fetching(driver) == {"limit": "500"}


def test_a_streamed_list_that_breaks_begins_again_from_nothing() -> None:
    driver = make(STREAMED)
    opened(driver)
    driver.data_received(event("ADDED", pod("a", 3)))

    assert kinds(driver.watch_closed(0.1)) == ["INTERRUPTED"]
    pause(driver)
    step = driver.next_step()
    assert isinstance(step, OpenWatch)
    assert "resourceVersion" not in step.query
    assert kinds(driver.watch_opened()) == ["SYNC_STARTED"]


# Watching


def test_events_keep_their_bytes() -> None:
    raw = (
        b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"\\u00e4","resourceVersion":"9"},"n":1.50,"e":"\xc3\xa4"}'
    )
    (change,) = watching().data_received(b'{"type":"ADDED","object":' + raw + b"}\n")

    assert change.raw == raw
    assert change.name == "ä"


def test_a_reconnect_continues_after_the_last_event() -> None:
    driver = watching()
    driver.data_received(event("MODIFIED", pod("a", 20)))

    assert driver.watch_closed(200) == []
    assert opened(driver)["resourceVersion"] == "20"


def test_a_reconnect_continues_after_the_last_bookmark() -> None:
    driver = watching()
    assert kinds(driver.data_received(bookmark(33))) == ["BOOKMARK"]

    driver.watch_closed(200)
    assert opened(driver)["resourceVersion"] == "33"


def test_half_a_line_at_the_end_of_a_watch_is_not_mixed_into_the_next() -> None:
    driver = watching()
    driver.data_received(event("MODIFIED", pod("a", 20))[:-30])
    driver.failed(UNREACHABLE)
    pause(driver)

    assert opened(driver)["resourceVersion"] == "10"
    assert kinds(driver.data_received(event("MODIFIED", pod("a", 20)))) == ["MODIFIED"]


def test_an_interruption_is_told_and_so_is_its_end() -> None:
    driver = watching()

    assert kinds(driver.failed(UNREACHABLE)) == ["INTERRUPTED"]
    pause(driver)
    assert isinstance(driver.next_step(), OpenWatch)
    assert [(c.type, c.resource_version) for c in driver.watch_opened()] == [(ChangeType.RESUMED, "10")]
    driver.watch_closed(200)
    assert isinstance(driver.next_step(), OpenWatch)
    assert driver.watch_opened() == []


@pytest.mark.parametrize("how", ["status", "event"])
@pytest.mark.parametrize("policy", [PAGED, STREAMED])
def test_gone_means_a_new_list(how: str, policy: ListWatchPolicy) -> None:
    driver = watching(policy)
    if how == "status":
        assert driver.failed(GONE) == []
    else:
        assert driver.data_received(event("ERROR", status(410, "Expired")) + event("ADDED", pod("x", 50))) == []
        assert driver.finished
    assert pause(driver) > 0

    if policy.streamed_lists:
        assert "resourceVersion" not in opened(driver)
    else:
        assert fetching(driver) == {"limit": "500"}


def test_a_version_from_the_future_means_a_new_list() -> None:
    """A server restored from a backup does not know the version that the watch stood at."""
    driver = watching()
    too_large = status(504, "Timeout", causes=[{"reason": "ResourceVersionTooLarge", "message": "Too large"}])

    assert kinds(driver.data_received(event("ERROR", too_large))) == ["INTERRUPTED"]
    pause(driver)
    fetching(driver)


@pytest.mark.parametrize("code", [0, 429, 500, 503])
def test_other_errors_keep_the_place(code: int) -> None:
    driver = watching()
    driver.data_received(event("MODIFIED", pod("a", 20)))

    assert kinds(driver.failed(ApiError(code, "Some", "thing"))) == ["INTERRUPTED"]
    pause(driver)
    assert opened(driver)["resourceVersion"] == "20"


def test_silence_ends_the_connection_not_the_watch() -> None:
    driver = watching()
    assert driver.watch_silent() == []
    assert opened(driver)["resourceVersion"] == "10"


@pytest.mark.parametrize("line", [b"garbage\n", b'{"type":"STRANGE","object":{}}\n', b'{"type":"ADDED","object":[]}\n'])
def test_a_malformed_line_breaks_the_watch_and_keeps_its_place(line: bytes) -> None:
    driver = watching()
    changes = driver.data_received(event("MODIFIED", pod("a", 20)) + line + event("MODIFIED", pod("a", 21)))

    assert kinds(changes) == ["MODIFIED", "INTERRUPTED"]
    assert driver.finished
    pause(driver)
    assert opened(driver)["resourceVersion"] == "20"


# Patience


def test_pauses_grow_to_a_limit_with_full_jitter() -> None:
    driver = make(random=1.0)
    pauses = []
    for _ in range(9):
        fetching(driver)
        driver.failed(UNREACHABLE)
        pauses.append(pause(driver))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]

    lucky = make(random=0.01)
    fetching(lucky)
    lucky.failed(UNREACHABLE)
    assert pause(lucky) == pytest.approx(0.005)


def test_an_event_resets_the_pauses() -> None:
    driver = watching()
    for _ in range(5):
        driver.failed(UNREACHABLE)
        pause(driver)
        opened(driver)
    driver.data_received(event("MODIFIED", pod("a", 20)))
    driver.failed(UNREACHABLE)

    assert pause(driver) == 0.5


def test_lists_that_each_watch_answers_with_gone_grow_rarer() -> None:
    driver = watching()
    pauses = []
    for _ in range(4):
        driver.failed(GONE)
        pauses.append(pause(driver))
        fetching(driver)
        driver.page_received(page(version=10))
        opened(driver)
    assert pauses == [0.5, 1, 2, 4]


def test_the_server_may_ask_for_more_patience() -> None:
    driver = watching()
    driver.failed(ApiError(429, "TooManyRequests", "later", retry_after_s=7))
    assert pause(driver) == 7


@pytest.mark.parametrize("code", [401, 403, 404])
def test_what_only_a_person_heals_is_asked_for_rarely(code: int) -> None:
    driver = make(random=0.0)
    fetching(driver)
    assert kinds(driver.failed(ApiError(code, "Some", "thing"))) == ["INTERRUPTED"]
    assert pause(driver) == 15
    fetching(driver)


def test_watches_that_end_at_once_and_say_nothing_are_paced() -> None:
    driver = watching()
    for expected in (0.5, 1, 2):
        assert driver.watch_closed(0.1) == []
        assert pause(driver) == expected
        opened(driver)
    driver.watch_closed(60)
    assert isinstance(driver.next_step(), OpenWatch)


def test_watch_timeouts_are_spread() -> None:
    low, high = watching(random=0.0), watching(random=1.0)
    for driver in (low, high):
        driver.watch_closed(200)
    assert (opened(low)["timeoutSeconds"], opened(high)["timeoutSeconds"]) == ("261", "319")
