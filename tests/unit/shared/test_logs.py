"""What reaches the log of what libraries say again and again."""

from __future__ import annotations

import logging

import pytest

from shared.observability.logs import RepeatsOfLibraries


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr("shared.observability.logs.time.monotonic", lambda: clock[0])
    return clock


def record(name: str, message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "file", 1, message, args, None)


def test_a_library_s_message_is_said_once_and_then_with_its_repeats(now: list[float]) -> None:
    gate = RepeatsOfLibraries()
    passed = [gate.filter(record("aiokafka.conn", "no broker at %s", port)) for port in range(5)]
    assert passed == [True, False, False, False, False]
    assert gate.filter(record("aiokafka.conn", "something else"))
    now[0] += 31
    late = record("aiokafka.conn", "no broker at %s", 7)
    assert gate.filter(late)
    assert late.getMessage() == "no broker at 7 (and 4 more like it)"
    assert not gate.filter(record("aiokafka.conn", "no broker at %s", 8))


def test_our_own_messages_pass_as_they_are(now: list[float]) -> None:
    del now
    gate = RepeatsOfLibraries()
    assert all(gate.filter(record("services.status.shell", "again")) for _ in range(3))
