from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from shared.adapters.kubernetes.errors import api_error, status_error
from tests.unit.kubernetes.builders import status


def test_a_status_says_reason_message_and_patience() -> None:
    body = json.dumps(status(429, "TooManyRequests", "slow down", retryAfterSeconds=3)).encode()
    error = api_error(429, body)
    assert (error.code, error.reason, error.message, error.retry_after_s) == (429, "TooManyRequests", "slow down", 3)
    assert error.retryable


def test_the_header_outdoes_the_status() -> None:
    body = json.dumps(status(503, "ServiceUnavailable", retryAfterSeconds=3)).encode()
    assert api_error(503, body, "9").retry_after_s == 9


def test_a_date_as_retry_after() -> None:
    header = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert api_error(503, b"", header).retry_after_s == pytest.approx(20, abs=2)


@pytest.mark.parametrize(("header", "seconds"), [("-5", 0), ("1e9", 600), ("soon", None)])
def test_senseless_patience_is_bounded(header: str, seconds: float | None) -> None:
    assert api_error(503, b"", header).retry_after_s == seconds


@pytest.mark.parametrize("body", [b"404 page not found", b"<html>\xff</html>", b"", b"[1]", b'{"kind":"Other"}'])
def test_what_proxies_say_is_an_error_too(body: bytes) -> None:
    error = api_error(404, body)
    assert (error.code, error.reason) == (404, "NotFound")


def test_a_long_body_is_cut() -> None:
    assert len(api_error(500, b"x" * 100_000).message) == 2048


def test_a_status_without_code_is_an_internal_error() -> None:
    assert status_error(b'{"kind":"Status","message":"etcd"}').code == 500
