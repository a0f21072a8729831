"""The command derives decisions again from a real log: of several epochs, of a standby that took over, and by name."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import PLACEMENTS
from shared.events.v1.placements import PlacementPublished
from shared.runtime.embedded import EmbeddedKafka
from tests.integration.scheduler.world import World, apply_request, delete_request, start_scheduler

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("kafka_bootstrap")]
_ROOT = Path(__file__).parents[3]


async def command(bootstrap: str, *arguments: str) -> tuple[int, list[str]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.scheduler", "replay", *arguments),
        cwd=_ROOT,
        env={**os.environ, "FLOTILLA_KAFKA_BOOTSTRAP": bootstrap},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return process.returncode, [*out.decode().splitlines(), *err.decode().splitlines()]


async def test_the_command_derives_what_several_leaders_decided(tmp_path: Path) -> None:
    async with EmbeddedKafka(tmp_path / "kafka") as kafka:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "test")
        world = World(log)
        await world.prepare()
        one, two = start_scheduler(log, "one"), start_scheduler(log, "two")
        await world.request(*(apply_request(f"w{number}", replicas=2) for number in range(6)))
        await world.until(PLACEMENTS.name, PlacementPublished, lambda found: len(found) == 6)
        await one.crash()
        await world.heartbeat("beta")
        await world.request(apply_request("after", replicas=3), apply_request("w1", replicas=5), delete_request("w2"))
        await world.until(PLACEMENTS.name, PlacementPublished, lambda found: "it/after" in found)
        await two.stop()
        await log.close()
        code, (*lines, total) = await command(kafka.bootstrap, "--all")
        assert code == 0, lines
        assert len(lines) >= 9
        assert all(line.endswith("\tequal") for line in lines), lines
        counted = re.search(r"of (\d+) entries (\d+) were derived exactly", total)
        assert counted is not None, total
        assert counted[1] == counted[2] != "0", total
