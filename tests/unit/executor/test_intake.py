from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.decision.stimuli import CommandMalformed, CommandSeen, CommandTombstoned
from services.executor.intake import NoSubjectError, read_command
from shared.ports.event_log import Record
from tests.unit.executor.builders import command, deployment


def record(key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    return Record("fleet.commands.east", 0, 1, 0, key, value, headers)


def test_a_command() -> None:
    issued = command(3, deployment())
    trace = ("traceparent", b"00-1-2-01")
    stimulus = read_command(record(issued.subject.encode(), issued.to_json(), (trace,)), 5)
    assert isinstance(stimulus, CommandSeen)
    assert (stimulus.command, stimulus.traceparent, stimulus.at_ms) == (issued, "00-1-2-01", 5)


def test_a_tombstone() -> None:
    assert isinstance(read_command(record(b"workload/a/b", None), 5), CommandTombstoned)


def test_a_tombstone_says_where_it_stands_in_the_journal() -> None:
    headers = (("fleet_epoch", b"2"), ("fleet_seq", b"71"))
    stimulus = read_command(record(b"workload/a/b", None, headers), 5)
    assert isinstance(stimulus, CommandTombstoned)
    assert (stimulus.epoch, stimulus.generation) == (2, 71)


@pytest.mark.parametrize("said", [b"", b"-1", b"1.5", b"x", b"\xff", b"9" * 20])
def test_a_place_that_is_no_number_is_none(said: bytes) -> None:
    stimulus = read_command(record(b"workload/a/b", None, (("fleet_seq", said),)), 5)
    assert isinstance(stimulus, CommandTombstoned)
    assert stimulus.generation is None


def test_a_malformed_command_says_of_itself_what_can_be_read() -> None:
    stimulus = read_command(record(b"s", b'{"epoch": 2, "generation": 7, "digest": "x", "action": "dance"}'), 5)
    assert isinstance(stimulus, CommandMalformed)
    assert (stimulus.epoch, stimulus.generation, stimulus.digest) == (2, 7, "x")
    assert "action" in stimulus.message


def test_a_header_that_cannot_be_read_is_no_reason_not_to_obey() -> None:
    issued = command(3, deployment())
    stimulus = read_command(record(b"s", issued.to_json(), (("ce_time", b"\xff"),)), 5)
    assert isinstance(stimulus, CommandSeen)


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"k" * 600])
def test_without_a_subject_there_is_nobody_to_report_to(key: bytes | None) -> None:
    with pytest.raises(NoSubjectError):
        read_command(record(key, b"{}"), 5)


@given(value=st.binary() | st.text().map(str.encode) | st.sampled_from([b"[]", b"null", b"1", b'{"generation":1e999}']))
def test_no_bytes_raise(value: bytes) -> None:
    assert isinstance(read_command(record(b"s", value), 5), CommandMalformed)
