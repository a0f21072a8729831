"""Steps as the journal has them: runs of records, not lists of offsets."""

from __future__ import annotations

import pytest

from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.state import SchedulerState
from services.scheduler.recording import Recorder
from shared.events.v1.decisions import InputRun, StateCall


def test_records_in_a_row_are_one_run() -> None:
    recorder = Recorder()
    for offset in (4, 5, 6):
        recorder.took_offset("objects", 1, offset, 1_000)
    assert recorder.take() == ((InputRun(topic="objects", partition=1, start=4, end=7, at=1_000),), True)
    assert recorder.take() == ((), True)


def test_a_run_over_gaps_says_how_many_records_it_had() -> None:
    recorder = Recorder()
    for offset in (4, 9, 10):
        recorder.took_offset("objects", 1, offset)
    ((run,), _) = recorder.take()
    assert (run.start, run.end, run.records) == (4, 11, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "other",
    [
        ("objects", 2, 5, 1_000, False),
        ("results", 1, 5, 1_000, False),
        ("objects", 1, 5, 1_001, False),
        ("objects", 1, 5, 1_000, True),
        ("objects", 1, 3, 1_000, False),
    ],
)
def test_another_run_begins_where_anything_but_the_offset_differs(other: tuple[str, int, int, int, bool]) -> None:
    recorder = Recorder()
    recorder.took_offset("objects", 1, 4, 1_000)
    *where, unheard = other
    recorder.took_offset(*where, unheard=unheard)  # type: ignore[arg-type]
    steps, _ = recorder.take()
    assert len(steps) == 2


def test_a_call_ends_a_run_and_has_the_arguments_that_no_log_has() -> None:
    recorder, state = Recorder(), SchedulerState(SchedulerConfig())
    recorder.took_offset("objects", 1, 4)
    assert recorder.call(state, "decide_pending", 1_000) == []
    recorder.took_offset("objects", 1, 5)
    steps, _ = recorder.take()
    assert [step.kind for step in steps] == ["run", "call", "run"]
    assert steps[1] == StateCall(method="decide_pending", arguments=(1_000,))


def test_what_cannot_be_replayed_cannot_be_called() -> None:
    with pytest.raises(ValueError, match="observe_object cannot be replayed"):
        Recorder().call(SchedulerState(SchedulerConfig()), "observe_object")


def test_a_standby_that_followed_for_long_says_that_it_has_left_steps_out() -> None:
    recorder = Recorder(most=3)
    for offset in range(0, 20, 2):
        recorder.took_offset("objects", offset % 4, offset)
    steps, whole = recorder.take()
    assert len(steps) <= 3
    assert not whole
    recorder.took_offset("objects", 0, 30)
    assert recorder.take()[1]
