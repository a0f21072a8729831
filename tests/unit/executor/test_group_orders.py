"""Orders of node groups as they come, and what is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from services.executor.decision.fence import Fence
from services.executor.decision.group_orders import GroupOrders, Held
from services.executor.decision.group_reports import GroupNews, report_of
from services.executor.decision.instructions import Report
from services.executor.decision.stimuli import CommandSeen, CommandsRead, CommandTombstoned
from shared.events.v1.commands import CommandIssued
from shared.kernel.machine import Instruction

SUBJECT = "nodegroup/small"


ORDER: dict[str, Any] = {
    "group": "small",
    "provider": {"kind": "kwok"},
    "template": {"allocatable": {"cpu": 1, "memory": "1Gi", "pods": 10}},
    "size": 1,
}


def issued(generation: int, *, epoch: int = 1, **changes: Any) -> CommandIssued:
    facts = {"cluster": "east", "subject": SUBJECT, "namespace": "", "digest": "d", "action": "run", "nodeGroup": ORDER}
    return CommandIssued.model_validate({**facts, "epoch": epoch, "generation": generation, **changes})


def seen(command: CommandIssued) -> CommandSeen:
    return CommandSeen(id="s", at_ms=1, subject=SUBJECT, command=command)


def read() -> CommandsRead:
    return CommandsRead(id="r", at_ms=2)


def outcomes(instructions: list[Instruction]) -> list[tuple[str, str, int]]:
    reports = [item.report for item in instructions if isinstance(item, Report)]
    return [(report.outcome, report.reason, report.generation) for report in reports]


def test_nothing_is_looked_at_before_all_was_read_and_the_newest_counts() -> None:
    orders = GroupOrders("east")
    assert orders.handle(seen(issued(2))) == ([], [])
    assert orders.handle(seen(issued(1))) == ([], [])
    woken, told = orders.handle(read())
    assert (woken, outcomes(told)) == ([SUBJECT], [("refused", "Stale", 1)])
    assert orders.handle(seen(issued(1, epoch=2))) == ([SUBJECT], []), "a newer epoch begins where it likes"
    held = orders.get(SUBJECT)
    assert held is not None
    assert held.fence == Fence(2, 1)


def test_what_is_older_is_forgotten_if_the_newest_follows_it() -> None:
    orders = GroupOrders("east")
    for generation in (2, 1, 2):
        orders.handle(seen(issued(generation)))
    assert outcomes(orders.handle(read())[1]) == []


def test_an_older_order_is_refused_after_its_subject_was_forgotten() -> None:
    orders = GroupOrders("east")
    orders.handle(read())
    orders.handle(seen(issued(5)))
    older = CommandTombstoned(id="t", at_ms=3, subject=SUBJECT, epoch=1, generation=4)
    assert orders.handle(older) == ([], [])
    assert orders.handle(CommandTombstoned(id="t", at_ms=3, subject=SUBJECT, epoch=1, generation=5))[0] == [SUBJECT]
    held = orders.get(SUBJECT)
    assert held is not None
    assert held.ended
    orders.forget(SUBJECT)
    orders.handle(read())
    orders.handle(seen(issued(4)))
    assert outcomes(orders.handle(read())[1]) == [("refused", "Stale", 4)]
    assert orders.handle(seen(issued(6)))[0] == [SUBJECT]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cluster": "west"}, "cluster:"),
        ({"subject": "nodegroup/other"}, "subject:"),
        ({"nodeGroup": None}, "nodeGroup: must be given"),
        ({"nodeGroup": {**ORDER, "group": "other"}}, "nodeGroup.group:"),
    ],
)
def test_what_cannot_be_meant_is_malformed(changes: dict[str, Any], words: str) -> None:
    orders = GroupOrders("east")
    _, told = orders.handle(seen(issued(1, **changes)))
    assert outcomes([*told]) == [("failed", "Malformed", 1)]
    assert isinstance(told[0], Report)
    assert words in told[0].report.message
    assert orders.get(SUBJECT) is None


def test_what_differs_is_told_and_attempts_are_counted_to_an_end() -> None:
    held = Held(issued(1))

    def told(news: GroupNews, outcome: Any = "applied") -> bool:
        return report_of("east", held, news, outcome, 1) is not None

    assert told(GroupNews(2, 1))
    assert not told(GroupNews(2, 1, message="other words"))
    assert told(GroupNews(2, 2))
    failures = [GroupNews(2, 2).failed("ProviderUnavailable", "no answer", attempt) for attempt in range(1, 9)]
    assert [told(news, "failed") for news in failures] == [True] * 5 + [False] * 3
    assert told(GroupNews(2, 2))
    report = report_of("east", held, failures[2], "failed", 1)
    assert report is not None
    assert (report.attempt, report.reason) == (3, "ProviderUnavailable")
