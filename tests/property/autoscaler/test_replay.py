"""What a decision says that it was made from is all that it was made from: derived again it is the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.autoscaler.decision import basis
from services.autoscaler.decision.asked import terms_of
from services.autoscaler.decision.deciding import Inputs, decide
from services.autoscaler.decision.horizontal.limits import Memory
from services.autoscaler.decision.horizontal.seen import PodSamples, Reading, Unmeasured, Values
from services.autoscaler.decision.measured import Measured
from services.autoscaler.decision.schedules import Floor, Schedules
from shared.events.v1.scaling import Scaling, WorkloadScaled
from shared.kernel.replay import Outcome
from tests.autoscaling import Json
from tests.integration.autoscaler.cases import answers, case, defaults_of, seen_in
from tests.unit.autoscaler.test_applying import World
from tests.unit.autoscaler.test_applying import made as recommended
from tests.unit.autoscaler.test_decided import journal, judged
from tests.unit.autoscaler.test_workloads import KEY, Seen

SOURCES = {"Resource": "resource", "ContainerResource": "containerResource"}


def scaling_of(document: Json) -> Scaling:
    """A case's terms as a workload asks for them."""
    found: Json = {
        "minReplicas": document["min"],
        "maxReplicas": document["max"],
        "metrics": [_metric(item) for item in document["metrics"]],
        "behavior": document["behavior"],
    }
    return Scaling.model_validate(found)


def _metric(item: Json) -> Json:
    kind = item["type"]
    if item["utilization"] is not None:
        target: Json = {"type": "Utilization", "averageUtilization": item["utilization"]}
    elif item["average_milli"] is not None:
        target = {"type": "AverageValue", "averageValue": f"{item['average_milli']}m"}
    else:
        target = {"type": "Value", "value": f"{item['value_milli']}m"}
    if kind in SOURCES:
        more = {"container": item["container"]} if item["container"] else {}
        return {"type": kind, SOURCES[kind]: {"name": item["name"], "target": target, **more}}
    source: Json = {"metric": {"name": item["name"]}, "target": target}
    if kind == "Object":
        source["describedObject"] = {"kind": "Service", "name": "it"}
    return {"type": kind, kind.lower(): source}


def measured(reading: Reading, pods: set[str], lacking: str) -> Measured:
    """Of the workload's own pods, as samples are looked for."""
    match reading:
        case PodSamples(samples):
            own = {key: sample for key, sample in samples.items() if key in pods}
            return Measured(
                PodSamples(own), max((item.at_ms for item in own.values()), default=None), len(own), lacking
            )
        case Values(milli):
            return Measured(reading, None, len(milli), lacking)
        case Unmeasured():
            return Measured(reading)


@given(
    st.integers(0, 10_000_000),
    st.sampled_from([None, None, 0.0, 3.2, 77.7]),
    st.booleans(),
)
def test_in_the_cases_of_the_horizontal_rule_a_replay_is_the_same(
    number: int, expected: float | None, gaps: bool
) -> None:
    document = case(number)
    if not any(item["type"] in {"Object", "External"} for item in document["metrics"]):
        document["min"] = max(1, document["min"])
    for look in document["looks"]:
        for reading in look["readings"]:
            reading["samples"].pop("unknown", None)
    defaults, scaling, memory = defaults_of(document), scaling_of(document), Memory()
    terms, asked, former, numbers, made = terms_of(scaling), 0, None, [], []
    for look in document["looks"]:
        if look["asked"] is not None:
            asked, former = look["asked"], None
        seen = seen_in(document, look, asked)
        keys = {pod.key for pod in seen.pods}
        lacking = "east says nothing" if gaps and number % 3 == 0 else ""
        inputs = Inputs(
            pod_set="main",
            now_ms=look["at_ms"],
            calendar_ms=look["at_ms"],
            asked=asked,
            there=seen.there,
            former=former,
            memory=memory,
            pods=seen.pods,
            measured=tuple(measured(reading, keys, lacking) for reading in seen.readings),
            expected=expected,
        )
        outcome = decide(inputs, terms, Floor(), defaults)
        memory, former = outcome.memory, outcome.said.replicas
        asked = asked if former is None else former
        numbers.append(asked)
        said = WorkloadScaled(uid="u", workload_generation=1, evaluated_at=look["at_ms"], pod_sets=(outcome.said,))
        made.append(basis.decided(KEY, said, inputs, basis.Origin("", defaults, scaling)))
    assert [(verdict.outcome, verdict.detail) for verdict in judged(journal(made), defaults)] == [
        (Outcome.EQUAL, "")
    ] * len(made)
    if expected is None and not gaps:
        # And what is recorded is what the original was asked.
        assert numbers == [replicas for replicas, _ in answers(document)]


OFFICE: Json = {"schedules": [{"name": "often", "schedule": "*/10 * * * *", "durationSeconds": 120, "minReplicas": 7}]}
LIVES = st.sampled_from([{}, {"behavior": None}, OFFICE, {"forecast": {}}, {"minReplicas": 3, "maxReplicas": 5}])
LOOKS = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(1, 12),
        st.sampled_from([200, 1_000, 15_000, 15_000, 60_000, 95_000, 600_000, -5_000]),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


@given(LIVES, LOOKS)
def test_every_number_that_is_told_was_decided_in_the_journal_and_follows(terms: Json, looks: list[Any]) -> None:
    seen = Seen(**terms)
    told: list[int | None] = []
    for milli, pods, after_ms, ready in looks:
        seen.pods(pods, ready=ready)
        said = seen.use(milli, pods, after_ms)
        if said is not None:
            told.append(said.pod_sets[0].replicas)
    made = seen.workloads.take_decided()
    verdicts = judged(journal(made))
    assert [(verdict.outcome, verdict.detail) for verdict in verdicts] == [(Outcome.EQUAL, "")] * len(made)
    assert changes(told) == changes([item.scaled.pod_sets[0].replicas for item in made])


def changes(numbers: list[int | None]) -> list[int | None]:
    return [number for index, number in enumerate(numbers) if not index or number != numbers[index - 1]]


def test_schedules_are_derived_from_what_the_workload_asks() -> None:
    seen = Seen(**OFFICE)
    scaling = Scaling.model_validate({"maxReplicas": 20, **OFFICE})
    seen.now -= seen.now % 600_000
    seen.use(50, after_ms=60_000)
    (made,) = seen.workloads.take_decided()
    assert made.scaled.pod_sets[0].replicas == Schedules(scaling.schedules).at(seen.now).replicas == 7
    assert judged(journal([made]))[0].outcome is Outcome.EQUAL


@given(st.integers(-3_600_000, 3_600_000))
def test_schedules_are_derived_by_the_calendar_that_they_went_by(ahead_ms: int) -> None:
    seen = Seen(**OFFICE)
    seen.workloads.look(KEY, seen.now, seen.now + ahead_ms)
    (made,) = seen.workloads.take_decided()
    assert made.basis.calendar == (seen.now + ahead_ms if ahead_ms else None)
    assert judged(journal([made]))[0].outcome is Outcome.EQUAL


APPLYING = st.lists(
    st.tuples(
        st.integers(100, 3_000),
        st.sampled_from([(0.5, 2.0), (0.9, 1.1), (0.1, 50.0)]),
        st.sampled_from([60_000, 60_000, 600_000, 13 * 3_600_000, -30_000]),
        st.sampled_from(["runs", "placed", "taken", "pods", "nothing", "none"]),
    ),
    min_size=1,
    max_size=20,
)


@given(APPLYING)
def test_requests_that_are_applied_follow_from_their_decisions(story: list[Any]) -> None:
    """`World.look` derives each again."""
    world, said = World(), None
    for target, (lower, upper), after_ms, happens in story:
        world.made = {"main": {"main": recommended(target, int(target * lower), int(target * upper))}}
        if happens == "runs":
            world.run()
        elif happens == "placed":
            world.place()
        elif happens == "taken":
            world.place(said)
        elif happens == "pods" and said is not None and said.containers:
            world.pods = [said.containers[0].cpu or 0, *world.pods[1:]]
        elif happens == "none":
            world.pods = []
        former, said = said, world.look(after_ms)
        if former is not None and former.containers != said.containers:
            assert world.decided[-1].requests == (said,)
