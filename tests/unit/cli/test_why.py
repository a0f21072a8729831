"""`flotilla why`: which decision is shown, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.console import Console

from services.autoscaler.decision.vertical.estimates import recommended
from services.autoscaler.decision.vertical.use import ContainerUse, Instance
from services.autoscaler.journal import decision_record
from services.cli.past import parse_at
from services.cli.why import Decided, as_document, as_text, decided_until
from services.cli.why_scaling import scaled_until
from shared.events.envelope import Envelope
from shared.events.topics import DECISIONS, DECISIONS_MADE, EPOCH_STARTED, SCALING_DECIDED
from shared.events.v1.decisions import (
    ContainerRequested,
    DecisionsMade,
    EpochStarted,
    Rebalanced,
    Requested,
    WorkloadPlaced,
)
from shared.events.v1.scaling import (
    ConditionType,
    MetricReading,
    PodSetScaled,
    Scaling,
    ScalingCondition,
    WorkloadScaled,
)
from shared.events.v1.scaling_decisions import ScalingBasis, ScalingDecided
from shared.events.v1.usage import PodSetLearned, UsageLearned
from shared.events.v1.vertical import PodSetRequests
from shared.events.v1.waiting import LIMIT_REACHED, NodesAwaited
from shared.model.identities import ZONE_LABEL
from shared.ports.event_log import Record
from tests.scheduling import World, image, workload

ANY = (None, None)


def decided() -> WorkloadPlaced:
    """Three replicas, of which one finds room."""
    world = World()
    world.cluster("east")
    world.cluster("west")
    world.node("east", "e1", cpu="1", labels={"node.kubernetes.io/instance-type": "small", ZONE_LABEL: "a"})
    world.node("west", "w1", cpu="200m", labels={"node.kubernetes.io/instance-type": "tiny"})
    (decision,) = world.apply(workload("web", image(replicas=3, cpu="700m", memory="10Mi")))
    assert isinstance(decision, WorkloadPlaced)
    return decision


def record(offset: int, value: EpochStarted | DecisionsMade) -> Record:
    kind = EPOCH_STARTED if isinstance(value, EpochStarted) else DECISIONS_MADE
    headers = Envelope(id=str(offset), source="test", type=kind.ce_type, time_ms=0).to_headers()
    return Record(DECISIONS.name, 0, offset, 0, None, value.to_json(), headers)


def journal(placed: WorkloadPlaced) -> Iterator[Record]:
    def entry(epoch: int, at: int) -> DecisionsMade:
        made = placed.model_copy(update={"workload_generation": at})
        return DecisionsMade(cell="0", epoch=epoch, leader=f"l{epoch}", decided_at=at, decisions=(made,))

    yield record(0, EpochStarted(cell="0", epoch=1, leader="l1"))
    yield record(1, entry(1, 10))
    yield record(2, entry(1, 20))
    yield record(3, EpochStarted(cell="0", epoch=2, leader="l2"))
    yield record(4, entry(1, 25))
    yield record(5, entry(2, 30))


@pytest.mark.parametrize(
    ("until", "generation"), [(ANY, 5), ((4, None), 2), ((None, 29), 2), ((1, None), 1), ((0, None), None)]
)
def test_the_last_decision_that_counts_is_found(until: tuple[int | None, int | None], generation: int | None) -> None:
    placed = decided()
    found = decided_until(journal(placed), str(placed.workload.key), until)
    assert (found.generation if found else None) == generation


def test_at_is_a_generation_or_a_time() -> None:
    assert parse_at("12") == (12, None)
    assert parse_at("1970-01-01T00:00:01Z") == parse_at("1970-01-01T00:00:01") == (None, 1000)
    with pytest.raises(ValueError, match="--at: 'noon' is neither"):
        parse_at("noon")


def test_reasons_are_told_by_cluster_and_class() -> None:
    placed = decided()
    why = placed.pod_sets[0].why
    assert why is not None
    (choice,) = why.choices
    assert (choice.cluster, choice.node, choice.runner_up) == ("east", "e1", "")
    assert {"fit", "balance", "order"} <= choice.terms.keys()
    told = {(item.cluster, item.node_class): (item.filter, item.closest, item.short) for item in why.refusals}
    east = next(name for cluster, name in told if cluster == "east")
    assert told["east", east] == ("resources", "e1", {"cpu": 400})
    assert told["west", "tiny"] == ("resources", "w1", {"cpu": 500})


def test_the_text_has_costs_and_refusals() -> None:
    console = Console(width=200)
    found = Decided(7, 0, decided())
    with console.capture() as shown:
        for line in as_text(found):
            console.print(line)
    text = shown.get()
    assert "1 of 3 replicas have a place" in text
    for part in ("east/e1", "weight", "tiny", "Insufficient cpu", "w1: cpu 500", "no other passed"):
        assert part in text
    assert as_document(found)["podSets"][0]["why"]["refusals"]


def test_the_text_says_what_was_learned() -> None:
    use, instance = ContainerUse(), Instance()
    for minute in range(2 * 24 * 60 + 1):
        use.add(instance, 100, 512 << 20, 1 + minute * 60_000)
    container = use.told("main", recommended(use, 1))
    pod_set = PodSetLearned(name="web", containers=(container,))
    found = Decided(7, 0, decided(), learned=UsageLearned(uid="u", learned_at=1, pod_sets=(pod_set,)))
    (line,) = [line for line in as_text(found) if isinstance(line, str) and line.startswith("container")]
    target = container.recommended.target
    assert line.startswith(f"container main of pod set web: should request cpu {target.cpu}m (")
    assert line.endswith("by 2881 samples of 2.0 days")
    assert as_document(found)["recommended"]["web"]["main"]["target"] == {"cpu": target.cpu, "memory": target.memory}


def test_the_text_says_why_a_replica_moved() -> None:
    moved = Rebalanced(
        at=1_000,
        from_cluster="east",
        from_node="e1",
        cluster="west",
        node="w1",
        cost_before=2.5,
        cost=2.0,
        gain=0.5,
        minimum_gain=0.1,
    )
    placed = decided()
    item = placed.pod_sets[0].model_copy(update={"rebalanced": moved})
    lines = [
        line
        for line in as_text(Decided(7, 0, placed.model_copy(update={"pod_sets": (item,)})))
        if isinstance(line, str)
    ]
    assert (
        "  Rebalanced: at 1970-01-01T00:00:01Z a replica of east/e1 is moving to west/w1: costs 2.5, there 2: "
        "a gain of 0.5, more than 0.1"
    ) in lines


def test_the_text_says_what_the_autoscaler_says() -> None:
    message = "unable to get metric lag: the newest values are older than 90 s, of east"
    metrics = (
        MetricReading(type="Resource", name="cpu", proposal=4, samples=2),
        MetricReading(type="External", name="lag"),
    )
    condition = ScalingCondition(
        type=ConditionType.ACTIVE, status=False, reason="FailedGetExternalMetric", message=message
    )
    pod_set = PodSetScaled(
        name="main", replicas=4, before=2, reason="cpu above target", metrics=metrics, conditions=(condition,)
    )
    scaled = WorkloadScaled(uid="u", workload_generation=1, evaluated_at=1000, pod_sets=(pod_set,))
    found = Decided(7, 0, decided(), scaled)
    lines = [line for line in as_text(found) if isinstance(line, str)]
    begin = lines.index("autoscaler, at 1970-01-01T00:00:01Z: 4 replicas of pod set main, before 2: cpu above target")
    assert lines[begin + 1 : begin + 4] == [
        "  Resource cpu: proposes 4, by 2 values",
        "  External lag: not measured, by 0 values",
        f"  ScalingActive False: FailedGetExternalMetric: {message}",
    ]
    assert as_document(found)["scaling"]["podSets"][0]["conditions"][0]["message"] == message
    assert "scaling" not in as_document(Decided(7, 0, decided()))


def test_the_text_says_whether_nodes_come() -> None:
    nodes = NodesAwaited(uid="u", coming=False, reason=LIMIT_REACHED, message="main: full", planned_at=2000)
    found = Decided(7, 0, decided(), nodes=nodes)
    lines = [line for line in as_text(found) if isinstance(line, str)]
    assert "not enough nodes come for those that wait, since 1970-01-01T00:00:02Z: LimitReached: main: full" in lines
    assert as_document(found)["nodes"]["reason"] == LIMIT_REACHED
    assert "nodes" not in as_document(Decided(7, 0, decided()))


def scaled_at(offset: int, at_ms: int, replicas: int, uid: str) -> Record:
    pod_set = PodSetScaled(name="main", replicas=replicas, before=2)
    body = ScalingDecided(
        workload="default/web",
        scaled=WorkloadScaled(uid=uid, workload_generation=1, evaluated_at=at_ms, pod_sets=(pod_set,)),
        basis=ScalingBasis(
            life="a", config="c", spec="s", state="t", scaling=Scaling(max_replicas=9), asked=2, there=3
        ),
    )
    made = decision_record(SCALING_DECIDED, body.workload, body, at_ms)
    return Record(DECISIONS.name, 0, offset, at_ms, made.key, made.value, made.headers)


@pytest.mark.parametrize(
    ("until", "replicas"), [(ANY, 6), ((4, None), 4), ((None, 29), 4), ((2, None), None), ((None, 9), None)]
)
def test_of_the_past_it_says_what_the_autoscaler_decided_then(
    until: tuple[int | None, int | None], replicas: int | None
) -> None:
    placed = decided()
    scaled = placed.model_copy(
        update={"workload": placed.workload.model_copy(update={"scaling": Scaling(max_replicas=9)})}
    )
    # Between the leader's entries; one is of a workload of that name that is gone.
    records = [
        *journal(placed),
        scaled_at(3, 10, 4, placed.uid),
        scaled_at(5, 30, 6, placed.uid),
        scaled_at(6, 20, 9, ""),
    ]
    found = scaled_until(records, scaled, until)
    assert (found.scaled.pod_sets[0].replicas if found else None) == replicas
    assert scaled_until(records, placed, until) is None
    if found is not None:
        shown = Decided(7, 0, scaled, found.scaled, basis=found.basis)
        text = "  decided from 3 pods and 2 replicas asked for; -o json has all that it went by"
        assert text in [line for line in as_text(shown) if isinstance(line, str)]
        assert as_document(shown)["scalingBasis"]["scaling"]["maxReplicas"] == 9


def test_the_text_says_what_containers_request_and_why() -> None:
    said = PodSetRequests(name="main", at=2000, reason="OutsideRecommendedRange", state="TooSoon", message="later")
    scaled = WorkloadScaled(uid="u", workload_generation=1, evaluated_at=1000, pod_sets=(), requests=(said,))
    container = ContainerRequested(name="app", requests={"cpu": 57, "memory": 1 << 30}, limits={"cpu": 114})
    placed = decided()
    item = placed.pod_sets[0].model_copy(update={"requested": Requested(containers=(container,), position="t/0/9")})
    found = Decided(7, 0, placed.model_copy(update={"pod_sets": (item,)}), scaled)
    lines = [line for line in as_text(found) if isinstance(line, str)]
    assert "requests of pod set main: TooSoon, applied at 1970-01-01T00:00:02Z: OutsideRecommendedRange; later" in lines
    assert "  container app requests cpu 57m (limit 114m), memory 1Gi, as recommended by t/0/9" in lines
    assert as_document(found)["scaling"]["requests"][0]["state"] == "TooSoon"
