"""What a replay says where the journal does not follow from the log, and where the log does not have all of it."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest

from services.scheduler.bootstrap import configuration
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.fingerprint import config_hash
from services.scheduler.recording import Recorder
from services.scheduler.replay import command
from services.scheduler.replay.verdicts import STATE
from shared.events.topics import DECISIONS, OBJECTS, REQUESTS
from shared.kernel.replay import Outcome, Verdict
from shared.ports.event_log import Partition
from tests.replaying import SETTINGS, Fleet, Json, in_virtual_time, replayed
from tests.scheduling import image, node_json, workload

JOURNAL = Partition(DECISIONS.name, 0)


async def decide_a_little(fleet: Fleet) -> None:
    """Three workloads of one replica each, decided one after another by one leader."""
    await fleet.befall(("node", "east", "n0", node_json()))
    for name in ("a", "b", "c"):
        await fleet.befall(("node", "west", f"n-{name}", node_json()))
        await asyncio.sleep(0.1)
        await fleet.befall(("apply", name, workload(name, image())))
        await asyncio.sleep(1)
    await fleet.close()


def rewrite(fleet: Fleet, change: Callable[[Json], bool]) -> int:
    """Changes the first entry of the journal that `change` says that it has changed; its offset."""
    records = fleet.log.segment(JOURNAL).records
    for index, record in enumerate(records):
        entry = orjson.loads(record.value or b"null")
        if change(entry):
            records[index] = record._replace(value=orjson.dumps(entry))
            return record.offset
    raise AssertionError("no entry was changed")


def lose(fleet: Fleet, topic: str) -> None:
    """Takes the first record of a topic away."""
    for number in range(8):
        records = fleet.log.segment(Partition(topic, number)).records
        if records:
            del records[0]
            return
    raise AssertionError(f"{topic} has no records")


def outcomes(verdicts: list[Verdict]) -> dict[str, Outcome]:
    return {verdict.key.removeprefix("default/"): verdict.outcome for verdict in verdicts}


ALL_EQUAL = dict.fromkeys(("a", "b", "c"), Outcome.EQUAL)


def test_a_decision_that_does_not_follow_is_different_in_a_field() -> None:
    def elsewhere(entry: Json) -> bool:
        for decision in entry.get("decisions", ()):
            if decision["workload"]["name"] == "b":
                decision["podSets"][0]["shares"][0]["nodes"] = ["elsewhere"]
                return True
        return False

    async def live(fleet: Fleet) -> None:
        await decide_a_little(fleet)
        at = rewrite(fleet, elsewhere)
        verdicts, replay = await replayed(fleet)
        wrong = next(verdict for verdict in verdicts if verdict.outcome is Outcome.DIFFERENT)
        assert (wrong.offset, wrong.key) == (at, "default/b")
        assert wrong.detail.startswith('podSets[0].shares[0].nodes[0]: "elsewhere", not "n')
        assert replay.exact
        # What comes after it may differ for that alone.
        assert outcomes(verdicts)["a"] is Outcome.EQUAL
        assert [verdict.key for verdict in verdicts if verdict.outcome is Outcome.DIFFERENT] == ["default/b"]

    in_virtual_time(live)


def test_a_decision_that_nobody_made_and_one_that_was_left_out_are_different() -> None:
    def left_out(entry: Json) -> bool:
        kept = [item for item in entry.get("decisions", ()) if item["workload"]["name"] != "c"]
        changed = len(kept) < len(entry.get("decisions", ()))
        entry["decisions"] = kept
        return changed

    async def live(fleet: Fleet) -> None:
        await decide_a_little(fleet)
        at = rewrite(fleet, left_out)
        verdicts, _ = await replayed(fleet)
        assert Verdict(at, "default/c", "placed", Outcome.DIFFERENT, "nothing had been decided") in verdicts

    in_virtual_time(live)


def test_an_end_that_an_older_leader_told_in_two_decisions_is_equal() -> None:
    """Journals of before `WorkloadForgotten.retired`."""
    deleted: list[Json] = []

    def as_before(entry: Json) -> bool:
        decisions = entry.get("decisions", [])
        deleted.extend(item for item in decisions if item.get("deleting"))
        for index, item in enumerate(decisions):
            if item["kind"] == "forgotten":
                decisions[index : index + 1] = [deleted[0] | {"withdrawn": [], "retired": item.pop("retired")}, item]
                return True
        return False

    async def live(fleet: Fleet) -> None:
        await fleet.befall(("node", "east", "n0", node_json()))
        await fleet.befall(("apply", "a", workload("a", image())))
        await asyncio.sleep(1)
        await fleet.befall(("delete", "a"))
        await asyncio.sleep(1)
        # It confirms whatever was decided until now.
        await fleet.befall(("gone", "east", "a", 1_000))
        await asyncio.sleep(1)
        await fleet.close()
        rewrite(fleet, as_before)
        verdicts, replay = await replayed(fleet)
        assert [(verdict.kind, verdict.outcome) for verdict in verdicts] == [
            ("placed", Outcome.EQUAL),
            ("placed", Outcome.EQUAL),
            ("forgotten", Outcome.EQUAL),
        ]
        assert replay.exact
        assert not replay.inexact

    in_virtual_time(live)


def test_a_state_that_is_another_is_different_though_the_decisions_are_equal() -> None:
    def another(entry: Json) -> bool:
        if not entry.get("decisions"):
            return False
        entry["basis"]["state"] = f"{'0' * 16}{entry['basis']['state'][16:]}"
        return True

    async def live(fleet: Fleet) -> None:
        await decide_a_little(fleet)
        at = rewrite(fleet, another)
        verdicts, _ = await replayed(fleet)
        assert Verdict(at, STATE, "state", Outcome.DIFFERENT, "the hash of nodes") in verdicts

    in_virtual_time(live)


def test_what_the_autoscaler_said_is_an_input_like_any_other() -> None:
    """A second leader decides by it as the first one did, and the decision names its record."""

    async def live(fleet: Fleet) -> None:
        await fleet.befall(("node", "east", "n0", node_json(cpu="16")))
        await fleet.befall(("apply", "a", workload("a", image(), scaling={"maxReplicas": 9})))
        for replicas in (3, 6):
            await asyncio.sleep(1)
            await fleet.befall(("scale", "a", replicas))
        await asyncio.sleep(1)
        await fleet.befall(("kill", 0))
        await asyncio.sleep(10)
        await fleet.befall(("scale", "a", 4))
        await asyncio.sleep(5)
        await fleet.close()
        decisions = [
            (item["podSets"][0]["desired"], item["podSets"][0].get("scaled"))
            for record in fleet.log.segment(JOURNAL).records
            for item in orjson.loads(record.value or b"{}").get("decisions", ())
        ]
        assert [desired for desired, _ in decisions] == [1, 3, 6, 4]
        positions = [int(said["position"].rpartition("/")[2]) for _, said in decisions if said]
        assert positions == [0, 1, 2]
        entries = [orjson.loads(record.value or b"{}") for record in fleet.log.segment(JOURNAL).records]
        read = [entry["inputs"]["fleet.scaling"] for entry in entries if "fleet.scaling" in entry.get("inputs", {})]
        assert sum(map(int, read[-1].values())) == 3
        verdicts, replay = await replayed(fleet)
        assert [verdict.outcome for verdict in verdicts] == [Outcome.EQUAL] * 4
        assert replay.exact
        assert not replay.inexact

    in_virtual_time(live)


def test_another_configuration_checks_nothing() -> None:
    async def live(fleet: Fleet) -> None:
        await decide_a_little(fleet)
        config = configuration(SETTINGS)
        verdicts, replay = await replayed(fleet, replace(config, placements_per_call=7))
        assert set(outcomes(verdicts).values()) == {Outcome.UNCHECKED}
        assert all("the configuration was another" in verdict.detail for verdict in verdicts)
        assert not replay.exact

    in_virtual_time(live)


def test_without_windows_the_configuration_is_that_of_journals_before_there_were_any() -> None:
    # As this configuration had it at c2faff8, where SchedulerConfig had no largest_first_ms, and more patience.
    before = SchedulerConfig(largest_first_ms=0, tolerate_loss_ms=10_000)
    assert config_hash(before, 524_288) == "b3c5a89b33295ad7"
    assert config_hash(SchedulerConfig(), 524_288) != "b3c5a89b33295ad7"


@pytest.mark.parametrize("topic", [OBJECTS.name, REQUESTS.name])
def test_what_the_log_has_lost_is_named_and_nothing_is_called_different_for_it(topic: str) -> None:
    async def live(fleet: Fleet) -> None:
        await decide_a_little(fleet)
        lose(fleet, topic)
        verdicts, replay = await replayed(fleet)
        assert Outcome.DIFFERENT not in outcomes(verdicts).values()
        assert replay.inexact
        lost = [verdict.detail for verdict in verdicts if verdict.outcome is Outcome.UNCHECKED]
        assert all(f"the log does not have what the leader read of {topic}/" in detail for detail in lost)
        assert lost or topic == OBJECTS.name

    in_virtual_time(live)


def test_in_the_midst_of_an_epoch_the_state_is_made_of_what_the_topics_have() -> None:
    async def live(fleet: Fleet) -> None:
        await decide_a_little(fleet)
        first = next(r for r in fleet.log.segment(JOURNAL).records if b'"name":"a"' in (r.value or b""))
        fleet.log.truncate(JOURNAL, first.offset)
        verdicts, replay = await replayed(fleet)
        assert outcomes(verdicts) == ALL_EQUAL | {"a": Outcome.UNCHECKED}
        assert "beginning of this epoch" in verdicts[0].detail
        assert not replay.exact

    in_virtual_time(live)


def test_a_standby_that_left_steps_out_leads_and_its_decisions_are_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    async def live(fleet: Fleet) -> None:
        await asyncio.sleep(1)
        monkeypatch.setattr(Recorder, "take", whole_no_more(Recorder.take))
        await fleet.end(0, kill=True)
        await decide_a_little(fleet)
        verdicts, replay = await replayed(fleet)
        assert Outcome.DIFFERENT not in outcomes(verdicts).values()
        assert replay.inexact

    def whole_no_more(take: Callable[[Recorder], tuple[object, bool]]) -> Callable[[Recorder], tuple[object, bool]]:
        return lambda self: (take(self)[0], False)

    in_virtual_time(live)


def test_the_command_shows_what_was_asked_for_and_fails_only_for_what_is_different() -> None:
    def asked(**given: object) -> Namespace:
        return Namespace(**{**vars(command.parse([])), **given})

    async def shown(fleet: Fleet, **given: object) -> tuple[int, list[str]]:
        lines: list[str] = []
        code = await command.replay(fleet.log, fleet.clock, SETTINGS, asked(**given), lines.append)
        return code, [line.rstrip("\n") for line in lines]

    async def live(fleet: Fleet) -> None:
        await decide_a_little(fleet)
        code, (newest, total) = await shown(fleet)
        assert (code, newest.split("\t")[1:]) == (0, ["default/c", "placed", "equal"])
        assert total.startswith("1 equal, 0 different, 0 unchecked; ")
        _, (_, _, _, total) = await shown(fleet, all=True)
        assert total.startswith("3 equal")
        _, (one, _) = await shown(fleet, key="default/b")
        assert one.split("\t")[1:] == ["default/b", "placed", "equal"]
        _, (behind, *_) = await shown(fleet, begin=int(one.split("\t")[0]))
        assert behind == one
        _, (*_, last, _) = await shown(fleet, end=int(one.split("\t")[0]))
        assert last == one

        def moved(entry: Json) -> bool:
            found = [item for item in entry.get("decisions", ()) if item["workload"]["name"] == "c"]
            for item in found:
                item["uid"] = "another"
            return bool(found)

        rewrite(fleet, moved)
        code, (wrong, *_) = await shown(fleet)
        assert code == 1
        assert 'different: uid: "another", not "' in wrong

    in_virtual_time(live)


def test_usage_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--from", "soon"])
    assert ended.value.code == 2
    assert "--from" in capsys.readouterr().err
