"""Which looks are decisions, what stands in them, and what a replay says of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import orjson
import pytest

from services.autoscaler.decision import basis
from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.nodes.cycle import Terms
from services.autoscaler.decision.nodes.draining import Times
from services.autoscaler.decision.nodes.rewards import Policy
from services.autoscaler.decision.nodes.scheduling import SchedulerConfig
from services.autoscaler.decision.vertical.applying import Pace
from services.autoscaler.journal import decision_record
from services.autoscaler.replay.judging import Judge
from shared.events.topics import DECISIONS, SCALING_DECIDED
from shared.events.v1.scaling_decisions import ScalingDecided
from shared.kernel.replay import Outcome, Verdict
from shared.ports.event_log import Record
from tests.autoscaling import Json, pod_json, scaled_workload
from tests.unit.autoscaler.test_workloads import KEY, Seen, placed

NO_BEHAVIOR: Json = {"behavior": None}


def journal(decided: Iterable[ScalingDecided]) -> list[Record]:
    """As the log has them."""
    found = []
    for offset, item in enumerate(decided):
        made = decision_record(SCALING_DECIDED, item.workload, item, 0)
        found.append(Record(DECISIONS.name, 0, offset, 0, made.key, made.value, made.headers))
    return found


def judged(records: Iterable[Record], defaults: Defaults | None = None) -> list[Verdict]:
    judge = Judge(defaults or Defaults(), Terms(Policy(), SchedulerConfig()), Times(), Pace())
    return [verdict for record in records for verdict in judge.judge(record)]


def rewritten(record: Record, **more: Any) -> Record:
    """With other values at paths such as `basis.asked`."""
    document = orjson.loads(record.value or b"")
    for path, value in more.items():
        at, *steps, last = document, *path.split("__")
        for step in steps:
            at = at[int(step)] if isinstance(at, list) else at[step]
        at[last] = value
    return record._replace(value=orjson.dumps(document))


def numbers(seen: Seen) -> list[int | None]:
    return [item.scaled.pod_sets[0].replicas for item in seen.workloads.take_decided()]


def test_another_number_is_a_decision_and_what_stays_is_none() -> None:
    seen = Seen()
    seen.use(50)
    assert numbers(seen) == [2]
    # What is told again, so that it is remembered, was not decided again.
    for _ in range(10):
        seen.use(50)
    assert numbers(seen) == []
    seen.use(100)
    assert numbers(seen) == [4]


def test_another_cause_of_the_same_number_is_one_and_those_that_come_and_go_are_written_once_a_minute() -> None:
    seen = Seen(pods=4)
    seen.use(200, 4)
    assert numbers(seen) == [16]
    seen.pods(16)
    # In turn the rate and nothing holds it.
    for number in range(40):
        seen.use(50 if number % 2 else 500, 16, after_ms=2_000)
    made = seen.workloads.take_decided()
    at = [item.scaled.evaluated_at for item in made]
    changed = [item.scaled.pod_sets[0].replicas != item.basis.former for item in made]
    for index, (former, later) in enumerate(pairwise(at), 1):
        assert changed[index] or later - former >= 60_000
    assert len(made) <= 2 + 80 // 60


def test_a_metric_that_fails_is_one_and_that_it_is_back_as_well() -> None:
    seen = Seen()
    seen.use(50)
    seen.workloads.look(KEY, seen.now + 90_001)
    seen.now += 150_002
    seen.use(50)
    made = seen.workloads.take_decided()
    assert [bool(item.scaled.pod_sets[0].error) for item in made] == [False, True, False]
    assert [verdict.outcome for verdict in judged(journal(made))] == [Outcome.EQUAL] * 3


def test_it_has_what_the_rule_saw_and_is_derived_from_it() -> None:
    seen = Seen()
    seen.pod("web-2", pod_json("web", phase="Pending", ready=False))
    seen.use(100)
    (made,) = seen.workloads.take_decided()
    assert (made.workload, made.basis.asked, made.basis.there, made.basis.former) == (KEY, 2, 3, None)
    assert made.basis.pods.names == ("east/default/web-0", "east/default/web-1", "east/default/web-2")
    assert [kind.phase for kind in made.basis.pods.kinds] == ["Running", "Pending"]
    assert made.basis.pods.kind == ((0, 2), (1, 1))
    (metric,) = made.basis.metrics
    assert (metric.of, metric.milli, metric.missing, metric.window) == ("pods", (100, 100), (2,), ((15_000, 2),))
    assert made.basis.scaling == placed(scaled_workload()).workload.scaling
    # What is to be remembered stands in `fleet.scaling`; here it is derived.
    assert not made.scaled.pod_sets[0].memory.recommendations
    assert judged(journal([made])) == [Verdict(0, KEY, "scaled", Outcome.EQUAL)]


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("scaled__podSets__0__replicas", 5, "podSets[0].replicas: 5, not 4"),
        ("scaled__podSets__0__reason", "a whim", 'podSets[0].reason: "a whim", not "cpu'),
        ("basis__state", "0" * 16, "basis.state: 0000000000000000, not "),
        ("basis__spec", "0" * 16, "basis.spec: 0000000000000000, not "),
        ("basis__memory", {"recommendations": [[9, 1]]}, "basis.state: "),
        ("basis__metrics__0__milli", [50, 50], "podSets[0]."),
        ("basis__metrics__0__milli", [50], "basis: zip()"),
        ("basis__pods__kind", [[7, 2]], "basis: pod east/default/web-0 is of kind 7, of 1"),
        ("basis__asked", 3, "podSets[0]."),
    ],
)
def test_what_does_not_follow_is_different_in_a_field(where: str, value: object, says: str) -> None:
    seen = Seen()
    seen.use(100)
    (record,) = journal(seen.workloads.take_decided())
    (verdict,) = judged([rewritten(record, **{where: value})])
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.detail.startswith(says)


def test_a_decision_that_was_left_out_is_missed_by_the_next() -> None:
    seen = Seen()
    for milli, pods in ((100, 2), (100, 4), (100, 8)):
        seen.pods(pods)
        seen.use(milli, pods)
    first, _, third = journal(seen.workloads.take_decided())
    assert [verdict.outcome for verdict in judged([first])] == [Outcome.EQUAL]
    _, verdict = judged([first, third])
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.detail == "basis.former: 8, not 4, as the decision before it says"


def test_of_another_life_nothing_is_missed() -> None:
    """Its predecessor may have decided what it never told."""
    seen = Seen()
    for pods in (2, 4):
        seen.pods(pods)
        seen.use(100, pods)
    first, second = journal(seen.workloads.take_decided())
    later = rewritten(second, basis__life="another")
    assert [v.outcome for v in judged([rewritten(first, scaled__podSets__0__replicas=5), later])] == [
        Outcome.DIFFERENT,
        Outcome.EQUAL,
    ]


def test_of_another_configuration_nothing_is_said() -> None:
    seen = Seen()
    seen.use(100)
    (verdict,) = judged(journal(seen.workloads.take_decided()), Defaults(tolerance=0.2))
    assert verdict.outcome is Outcome.UNCHECKED
    assert verdict.detail.startswith("the configuration was another (")


def test_what_cannot_be_read_ends_no_replay() -> None:
    seen = Seen()
    seen.use(100)
    (record,) = journal(seen.workloads.take_decided())
    verdicts = judged([record._replace(value=b"{}"), record, record._replace(headers=())])
    assert [verdict.outcome for verdict in verdicts] == [Outcome.UNCHECKED, Outcome.EQUAL]


def test_its_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis, "MOST_VALUES", 10)
    small, large = Seen(pods=2), Seen(pods=9)
    small.use(100, 2)
    large.use(100, 9)
    (whole,), (part,) = small.workloads.take_decided(), large.workloads.take_decided()
    assert whole.basis.whole
    assert (part.basis.whole, part.basis.pods.names, part.basis.metrics) == (False, (), ())
    (verdict,) = judged(journal([part]))
    assert (verdict.outcome, verdict.detail) == (
        Outcome.UNCHECKED,
        "not all that it was made from is in it: there was too much of that",
    )


def test_a_thousand_pods_that_are_alike_are_a_few_bytes_each() -> None:
    seen = Seen(pods=1000, maxReplicas=4000)
    seen.use(100, 1000)
    (made,) = seen.workloads.take_decided()
    assert len(made.to_json()) < 40 * 1000
