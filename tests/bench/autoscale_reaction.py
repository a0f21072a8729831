"""`python -m tests.bench.autoscale_reaction`: from a sample that is published to the command that scales by it.

A real broker, the scheduler and the autoscaler as processes. Samples of four pods ask for six replicas and for two in
turn; the workload's rates and windows allow both at once. Measured is from the call that publishes the sample to the
moment in which the command of the other size was read from the cluster's topic. Samples come at random moments.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import ALL_TOPICS, PLACEMENTS, SCALING, commands_topic
from shared.ports.event_log import Publisher, Reader
from shared.runtime.embedded import EmbeddedKafka
from tests.autoscaling import (
    CLUSTER,
    ServiceProcess,
    apply_record,
    follow,
    heartbeat_record,
    node_record,
    pod_json,
    pod_record,
    sample_record,
    scaled_workload,
    until,
)
from tests.bench.support import quantile, run_directory, show_figures, write_result

PODS = 4
# Thousandths of a core that each pod uses, and how many replicas that asks for: the target is 50 of 100.
STEPS = ((75, 6), (25, 2))


def now_ms() -> int:
    return int(time.time() * 1000)


async def measure(rounds: int, directory: Path) -> dict[str, Any]:
    kafka = EmbeddedKafka(directory / "kafka")
    await kafka.start()
    log = await KafkaLog.connect(KafkaOptions(bootstrap=kafka.bootstrap), "bench")
    scheduler = ServiceProcess("scheduler", directory, kafka.bootstrap)
    autoscaler = ServiceProcess("autoscaler", directory, kafka.bootstrap, "run")
    try:
        await log.ensure_topics([*ALL_TOPICS, commands_topic(CLUSTER)])
        publisher = await log.publisher("bench")
        commands, scaling = await follow(log, commands_topic(CLUSTER).name), await follow(log, SCALING.name)
        placements = await follow(log, PLACEMENTS.name)
        await scheduler.start()
        await autoscaler.start()
        await publisher.send_many([heartbeat_record(now_ms()), node_record(), apply_record(scaled_workload())])
        await publisher.send_many([pod_record(f"web-{number}", pod_json("web")) for number in range(PODS)])
        await publisher.flush()
        await until(placements, lambda record: record.key == b"default/web")
        await until(scaling, lambda record: record.key == b"default/web")
        await begin(publisher, commands)
        took = [await one(publisher, commands, *STEPS[number % 2]) for number in range(rounds)]
        for reader in (commands, scaling, placements):
            await reader.close()
        await publisher.close()
        return {
            "rounds": rounds,
            "p50_ms": round(quantile(took, 0.5), 1),
            "p99_ms": round(quantile(took, 0.99), 1),
            "max_ms": round(max(took), 1),
        }
    finally:
        for process in (autoscaler, scheduler):
            await process.close()
        await log.close()
        await kafka.stop()


async def begin(publisher: Publisher, commands: Reader) -> None:
    """Samples until the last of the steps is commanded: faust may have been late for the first."""
    for _ in range(30):
        for step in STEPS:
            try:
                async with asyncio.timeout(3):
                    await one(publisher, commands, *step)
            except TimeoutError:
                break
        else:
            return
    raise RuntimeError("the autoscaler scales nothing")


async def one(publisher: Publisher, commands: Reader, milli: int, replicas: int) -> float:
    """Milliseconds."""
    await asyncio.sleep(random.uniform(0.3, 0.8))
    began = time.perf_counter()
    await publisher.send_many([sample_record(milli, PODS, now_ms())])
    await publisher.flush()
    wanted = f'"replicas":{replicas}'.encode()
    await until(commands, lambda record: wanted in (record.value or b""))
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.autoscale_reaction", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--directory", type=Path, default=None, help="kept: the services' logs")
    arguments = parser.parse_args()
    with run_directory("autoscale", arguments.directory) as directory:
        result = asyncio.run(measure(arguments.rounds, directory))
    show_figures("sample published → scale command published", result, Console())
    write_result(result)


if __name__ == "__main__":
    main()
