"""Packets are lost as they are said to be: in one direction, of one connection, for as long as it lasts."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.chaos import network
from tests.testbed.process import REPOSITORY

pytestmark = pytest.mark.skipif(bool(network.unavailable()), reason=f"no network namespaces: {network.unavailable()}")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What `network_trial` saw, in namespaces of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.network_trial"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("peer", ["elsewhere", "router"])
def test_what_is_sent_is_lost_in_one_direction_and_sent_again_afterwards(found: dict[str, Any], peer: str) -> None:
    seen = found[peer]
    assert seen["before"] == ["before"]
    # Lost requests never reach the other side meanwhile; lost answers do, and come later.
    assert (seen["requests lost"], seen["requests heard"]) == ([], False)
    assert (seen["answers lost"], seen["answers heard"]) == ([], True)
    assert seen["after"] == ["after"]


@pytest.mark.parametrize("peer", ["elsewhere", "router"])
def test_a_half_open_connection_is_silent_and_others_are_not(found: dict[str, Any], peer: str) -> None:
    seen = found[peer]
    assert (seen["half open"], seen["beside it"], seen["closed"]) == ([], ["beside"], False)


@pytest.mark.parametrize("peer", ["elsewhere", "router"])
def test_a_request_that_was_given_up_does_not_arrive_when_the_network_is_back(found: dict[str, Any], peer: str) -> None:
    assert found[peer]["given up"] == []


def test_a_full_disk_takes_nothing_more_until_it_is_emptied(found: dict[str, Any]) -> None:
    assert found["disk"] == {"full": "No space left on device", "emptied": "written"}


def test_the_machine_keeps_its_network(found: dict[str, Any]) -> None:
    assert found
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=10, check=True).stdout
    assert "elsewhere" not in names
