"""Whatever the order of reading, deciding, looking again and dying: each request once, in order, in bounded memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.intake import Intake, Look, lane_of
from shared.events.v1.decisions import DecisionsMade
from shared.ports.event_log import Record

ALL, LOOK = 8, 2
# As long as one lane alone can become.
LANE = ALL // 2
Where = tuple[int, int]


def record(partition: int, offset: int, name: str) -> Record:
    return Record("fleet.requests", partition, offset, 0, f"{name}/w".encode(), b"{}")


@dataclass
class Run:
    """A leader's intake, the log that it reads, and what it has decided, across deaths of leaders."""

    log: list[list[str]]
    decided: list[Where] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stored = DecisionsMade(cell="0", epoch=1, leader="x", decided_at=1)
        self.begin()

    def begin(self) -> None:
        """A new leader, which knows what the journal says."""
        entry = DecisionsMade.model_validate_json(self.stored.to_json())
        start = {number: entry.inputs.get("r", {}).get(number, 0) for number in range(len(self.log))}
        self.intake = Intake(start, entry.ahead, all_records=ALL, look_records=LOOK)
        self.position = dict(start)
        self.look: Look | None = None
        self.look_at = 0

    def read(self, partition: int) -> None:
        offset = self.position[partition]
        if offset < len(self.log[partition]) and not self.intake.full:
            self.intake.offer(record(partition, offset, self.log[partition][offset]))
            self.position[partition] = offset + 1

    def decide(self) -> None:
        found = self.intake.peek()
        if found is None:
            return
        self.intake.pop()
        self.decided.append((found.partition, found.offset))
        inputs, ahead = self.intake.decided()
        self.stored = self.stored.model_copy(update={"inputs": {"r": inputs}, "ahead": ahead})
        self.check_stored()

    def look_again(self) -> None:
        """One step of the second reading."""
        if self.look is None:
            self.look = self.intake.begin_look()
            if self.look is None:
                return
            self.look_at = self.look.offset
        partition = self.look.partition
        # A portion at a time, which may reach beyond what was read first.
        for offset in range(self.look_at, min(self.look_at + LOOK, len(self.log[partition]))):
            self.intake.offer_again(self.look, record(partition, offset, self.log[partition][offset]))
            self.look_at = offset + 1
        if not self.intake.go_on(self.look, self.look_at):
            self.look = None

    def check_stored(self) -> None:
        """What the journal says is exactly what was decided."""
        lowest, ahead = self.stored.inputs["r"], self.stored.ahead
        done = set(self.decided)
        for partition, names in enumerate(self.log):
            for offset, name in enumerate(names):
                said = offset < lowest[partition]
                if not said and ahead is not None:
                    end = ahead.read.get(partition, 0)
                    said = offset < ahead.waiting.get(name, {}).get(partition, end) and offset < end
                assert said == ((partition, offset) in done), (partition, offset, name)


logs = st.lists(st.lists(st.sampled_from(["noisy", "noisy", "a", "b"]), max_size=30), min_size=1, max_size=3)
steps = st.lists(st.tuples(st.sampled_from(["read", "read", "decide", "look", "die"]), st.integers(0, 2)), max_size=200)


@settings(max_examples=400, deadline=None)
@given(logs, steps)
def test_each_request_is_decided_once_and_in_order(log: list[list[str]], taken: list[tuple[str, int]]) -> None:
    run = Run(log)
    act: dict[str, Callable[[int], None]] = {
        "read": lambda number: run.read(number % len(log)),
        "decide": lambda _: run.decide(),
        "look": lambda _: run.look_again(),
        "die": lambda _: run.begin(),
    }
    for what, number in taken:
        act[what](number)
        assert len(run.intake) <= ALL + LOOK
    for _ in range(20 * (sum(map(len, log)) + 10)):
        for partition in range(len(log)):
            run.read(partition)
        run.look_again()
        run.decide()
    everything = [(partition, offset) for partition, names in enumerate(log) for offset in range(len(names))]
    assert sorted(run.decided) == everything
    order: dict[tuple[str, int], list[int]] = defaultdict(list)
    for partition, offset in run.decided:
        order[lane_of(record(partition, offset, log[partition][offset])), partition].append(offset)
    assert all(offsets == sorted(offsets) for offsets in order.values())
    assert run.intake.passed_over == 0


def test_a_flood_does_not_delay_the_others() -> None:
    intake = Intake({0: 0}, all_records=8)
    for offset in range(1000):
        intake.offer(record(0, offset, "noisy"))
    intake.offer(record(0, 1000, "quiet"))
    served = []
    for _ in range(2):
        found = intake.peek()
        assert found is not None
        served.append(lane_of(found))
        intake.pop()
    assert served == ["noisy", "quiet"]
    assert len(intake) == 3
    lowest, ahead = intake.decided()
    assert lowest == {0: 1}
    assert ahead is not None
    assert ahead.read == {0: 1001}
    assert ahead.waiting == {"noisy": {0: 1}}


@given(st.lists(st.sampled_from("aaabbc"), max_size=20), st.integers(1, 20), st.integers(0, 2_000))
def test_those_ahead_are_those_whose_turns_come(names: list[str], count: int, size: int) -> None:
    intake = Intake({0: 0}, all_records=1_000)
    for offset, name in enumerate(names):
        intake.offer(record(0, offset, name))
    ahead = intake.ahead(count, size)
    each = 200 + len(record(0, 0, "a").key or b"") + 2
    assert len(ahead) == min(count, len(names), max(size // each, 1))
    for found in ahead:
        assert intake.peek() is found
        intake.pop()


def test_without_anybody_waiting_there_is_nothing_ahead() -> None:
    intake = Intake({0: 5})
    for offset in range(5, 9):
        intake.offer(record(0, offset, "a"))
    while intake.peek() is not None:
        intake.pop()
    assert intake.decided() == ({0: 9}, None)


def test_a_second_reading_that_overtakes_the_first_leaves_it_its_own() -> None:
    """It reads in portions, and the first may have stopped because the intake was full."""
    run = Run([["a"] * (LANE + 2)])
    for _ in range(LANE + 1):
        run.read(0)
    for _ in range(LANE):
        run.decide()
    run.look_again()
    run.read(0)
    for _ in range(2):
        run.decide()
        run.look_again()
    assert run.decided == [(0, offset) for offset in range(LANE + 2)]
    assert run.intake.peek() is None
