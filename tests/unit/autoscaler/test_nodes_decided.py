"""What stands in decisions on node groups, and what a replay says of those that do not follow."""

from __future__ import annotations

import asyncio
import base64
import os
import pickle
import sys
import zlib
from typing import Any

import orjson
import pytest

from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.nodes import recorded
from services.autoscaler.decision.nodes.draining import Times
from services.autoscaler.decision.vertical.applying import Pace
from services.autoscaler.replay.judging import Judge
from services.cli.why_nodes import planned_until
from shared.events.registry import decode
from shared.events.v1.node_decisions import NodesDecided
from shared.kernel.replay import Outcome, Verdict
from shared.ports.event_log import Record
from tests.autoscaling import ROOT
from tests.node_groups import CLUSTER, node_at, node_json, pod_at, running_pod
from tests.property.autoscaler.test_nodes_replay import TERMS, TIMES, Live, judged
from tests.unit.autoscaler.test_decided import rewritten

LARGE = f"{CLUSTER}/large"


def grown() -> Live:
    """Nine cores are asked for, twice: a large node comes, then another."""
    live = Live()
    live.plan(down=True)
    for number in range(2):
        live.do(("waits", number, "7", False))
        live.now += 100
        live.plan(down=False)
    return live


def outcomes(verdicts: list[Verdict]) -> dict[str, Outcome]:
    return {verdict.key: verdict.outcome for verdict in verdicts}


def test_a_plan_says_what_it_was_made_from() -> None:
    live = grown()
    made = decode(NodesDecided, live.records[1].value)
    (order,) = made.groups
    assert (order.group, order.size, order.reason) == ("large", 1, "PodsWait")
    assert order.chosen is not None
    assert order.chosen.terms["price"].weight == 10
    assert [(item.group, item.size, item.most, item.price) for item in made.basis.groups] == [
        ("large", 0, 10, 1.5),
        ("least", 1, 10, 1.0),
        ("small", 0, 10, 1.0),
    ]
    assert [(item.pod_set, item.count) for item in made.basis.pending] == [("east/default/ReplicaSet/web", 1)]
    # Of what had been read it says so once.
    assert (made.inputs, order.inputs) == ({"fleet.results": {0: 7}}, {})
    document = orjson.loads(zlib.decompress(base64.b64decode(made.basis.document)))
    assert [kind for kind, _ in document["calls"]].count("seen") == 1
    assert live.changes == [True, True, True]
    assert {verdict.outcome for verdict in judged(live.records)} == {Outcome.EQUAL}


@pytest.mark.parametrize(
    ("where", "value", "key", "says"),
    [
        ("groups__0__size", 7, LARGE, "size: 7, not 1"),
        ("groups__0__chosen__terms__price__value", 0.5, LARGE, "chosen.terms.price.value: 0.5, not "),
        ("groups__0__message", "a whim", LARGE, 'message: "a whim", not "1 nodes more for 1 pods'),
        ("groups", [], LARGE, "nothing had been decided"),
        ("ended", ["east/small"], "east/small", "whether it ended"),
        ("plan__waiting", 9, "-/plan", "plan.waiting: 9, not 1"),
        ("basis__state", "0", "-/plan", 'basis.state: "0", not '),
        ("basis__at", 5, LARGE, "chosen.at: "),
        ("basis__down", True, "-/plan", "basis: it asks for open, where groups was asked for"),
        ("basis__document", "", "-/plan", "basis: "),
        ("basis__document", "AAAA", "-/plan", "basis: its document cannot be read"),
        ("basis__document", "*", "-/plan", "basis: "),
    ],
)
def test_what_does_not_follow_is_different_in_a_field(where: str, value: object, key: str, says: str) -> None:
    record = rewritten(grown().records[1], **{where: value})
    wrong = [verdict for verdict in judged([record]) if verdict.outcome is Outcome.DIFFERENT]
    found = {verdict.key: verdict.detail for verdict in wrong}
    assert key in found, found
    if where != "basis__at":
        assert found[key].startswith(says)


def test_an_order_that_was_left_out_is_missed_by_the_next() -> None:
    records = grown().records
    assert outcomes(judged([records[0], records[2]])) == {
        "east/small": Outcome.EQUAL,
        "east/least": Outcome.EQUAL,
        LARGE: Outcome.DIFFERENT,
    }
    # One that was only followed was there.
    judge = Judge(Defaults(), TERMS, TIMES, Pace())
    for record in records[:2]:
        judge.follow(record)
    assert outcomes(list(judge.judge(records[2]))) == {LARGE: Outcome.EQUAL}
    # Another autoscaler does not know what this one did.
    assert outcomes(judged([records[0], rewritten(records[2], basis__life="b")]))[LARGE] is Outcome.EQUAL


def test_what_was_not_all_written_is_unchecked_and_nothing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = grown().records
    monkeypatch.setattr(recorded, "MOST_BYTES", 10)
    part = grown().records[1]
    assert not decode(NodesDecided, part.value).basis.whole
    verdicts = judged([whole[0], part, whole[2]])
    assert [verdict.outcome for verdict in verdicts if verdict.key == LARGE] == [
        Outcome.EQUAL,
        Outcome.UNCHECKED,
        Outcome.EQUAL,
    ]


def test_a_plan_with_a_defect_and_one_of_another_configuration_are_unchecked() -> None:
    record = grown().records[1]
    assert outcomes(judged([rewritten(record, basis__failed=["grow"])])) == {LARGE: Outcome.UNCHECKED}
    other = Judge(Defaults(), TERMS, Times(provision=1), Pace())
    assert [verdict.outcome for verdict in other.judge(record)] == [Outcome.UNCHECKED]


def test_a_large_fleet_is_a_small_document() -> None:
    live = Live()
    for node in range(200):
        live.put(node_at(f"n{node}", node_json("large", cpu="64")))
        for number in range(20):
            labels = {"app": "web", "pod": f"{node}-{number}"}
            live.put(pod_at(f"p{node}-{number}", running_pod(f"n{node}", metadata={"labels": labels})))
    live.do(("waits", 1, "7", False))
    live.plan(down=True)
    made = decode(NodesDecided, live.records[-1].value)
    assert made.basis.whole
    # 4,000 pods with names of their own, seen twice.
    assert len(made.basis.document) < 100_000
    assert {verdict.outcome for verdict in judged(live.records)} == {Outcome.EQUAL}


@pytest.mark.parametrize(
    ("until", "size"), [((None, None), 2), ((1, None), 1), ((None, 1_800_000_000_150), 1), ((0, None), 0)]
)
def test_of_the_past_it_says_what_was_ordered_then(until: tuple[int | None, int | None], size: int) -> None:
    live = grown()
    planned, plan = planned_until(live.records, LARGE, until)
    assert planned is not None
    assert planned.size == size
    assert (plan.waiting if plan is not None else 0) == size


def test_a_group_that_ended_is_not_explained_of_afterwards() -> None:
    live = grown()
    live.do(("declare", 1, False))
    live.now += 100
    live.plan(down=True)
    records: list[Record] = live.records
    assert planned_until(records, LARGE, (None, None))[0] is None
    assert planned_until(records, LARGE, (len(records) - 2, None))[0] is not None


def test_what_was_seen_is_not_what_is_read_from_nonsense() -> None:
    record = grown().records[1]
    document: Any = orjson.loads(zlib.decompress(base64.b64decode(decode(NodesDecided, record.value).basis.document)))
    for spoiled in (
        {**document, "calls": [["what", 1]]},
        {**document, "demands": 3},
        {"memory": document["memory"]},
        [1],
    ):
        packed = base64.b64encode(zlib.compress(orjson.dumps(spoiled))).decode()
        (verdict,) = judged([rewritten(record, basis__document=packed)])
        assert verdict.outcome is Outcome.DIFFERENT
        assert verdict.detail.startswith("basis: ")


_ELSEWHERE = """
import pickle, sys
from tests.property.autoscaler.test_nodes_replay import judged
print({verdict.outcome for verdict in judged(pickle.load(sys.stdin.buffer))})
"""


@pytest.mark.parametrize("seed", ["1", "2", "3"])
async def test_another_process_makes_it_again(seed: str) -> None:
    """Where sets have another order; while a cheaper node is awaited, which is told from those that were there."""
    live = Live()
    for number in range(1, 5):
        live.do(("node", number, 2, True))
        live.put(pod_at(f"full-{number}", running_pod(f"n{number}", cpu="4")))
    live.do(("node", 0, 1, True))
    live.put(pod_at("one", running_pod("n0")))
    for _ in range(3):
        live.now += 1_100
        live.plan(down=True)
    assert max(len(drain.known) for drain in live.plans.memory().drains.drains) > 3
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _ELSEWHERE),
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, complaint = await process.communicate(pickle.dumps(live.records))
    assert said.decode().strip() == "{<Outcome.EQUAL: 'equal'>}", complaint.decode()


def test_head_room_is_among_what_it_was_made_from() -> None:
    live = Live()
    live.do(("declare", 3, True))
    live.plan(down=True)
    made = decode(NodesDecided, live.records[-1].value)
    assert sum(item.count for item in made.basis.head_room) > 0
    assert {verdict.outcome for verdict in judged(live.records)} == {Outcome.EQUAL}
