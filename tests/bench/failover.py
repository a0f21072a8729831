"""`python -m tests.bench.failover`: how long nothing is decided when a leader dies, and what a late leader can do.

A stream of requests, real Kafka, simulated clusters, a leader and one warm standby as processes of their own.

1. The leader is killed (SIGKILL) `trials` times, each at a random moment of its renewals. Timed is from the signal
   until the next decision of a higher epoch can be read from the journal. The killed one starts again as the standby.
2. The leader is paused (SIGSTOP) for longer than its lease `--pauses` times and goes on once another leads. Beside
   what it writes then, writes in its name are forged: an entry of the journal by a producer that the broker does not
   fence, and commands of its epoch with later generations. Counted is what took effect (`stale_writes`; must be 0).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from services.cli.fleet import FleetOptions, LocalFleet, ServiceProcess
from services.cli.fleet.clusters import SimulatedClusters
from services.cli.fleet.requesting import request_record
from services.scheduler.journal import encode_entry
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.events.topics import commands_topic
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import DecisionsMade, RequestRef, WorkloadPlaced
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.workloads import Workload
from shared.ports.event_log import NewRecord
from tests.bench.support import apply_request, quantile, run_directory, show_figures, write_result
from tests.bench.witness import Witness

CLUSTERS = ("east", "west")
WORKLOADS = 100
LONGEST_S = 60.0
# What a late leader says is looked at for so long after it goes on.
LATE_S = 4.0


@dataclass(slots=True)
class Outcome:
    takeovers: list[float] = field(default_factory=list)
    pauses: int = 0
    forged_commands: int = 0
    forged_entries: int = 0
    fenced: dict[str, int] = field(default_factory=dict)


def specification() -> str:
    group = {"name": "n", "count": 20, "cpu": "32", "memory": "128Gi"}
    timing = {"podStart": 0.05, "podStartJitter": 0.0}
    return yaml.safe_dump({"clusters": [{"name": n, "timing": timing, "nodeGroups": [group]} for n in CLUSTERS]})


def request(number: int) -> WorkloadRequested:
    """Each turn through the workloads asks for other replicas, so every request is decided."""
    turn, index = divmod(number, WORKLOADS)
    return apply_request(f"team-{index % 5}", f"w{index:03d}", cpu="50m", memory="16Mi", replicas=1 + turn % 3)


async def ask(log: KafkaLog, rate: float) -> None:
    """A request every `1 / rate` seconds, until cancelled."""
    publisher = await log.publisher("bench")
    began, number = time.monotonic(), 0
    try:
        while True:
            await publisher.send(request_record(request(number), source="bench")[0])
            number += 1
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
    finally:
        await publisher.close()


class Trials:
    def __init__(self, fleet: LocalFleet, log: KafkaLog, witness: Witness) -> None:
        self._fleet = fleet
        self._log = log
        self._witness = witness
        self._random = random.Random(4)
        self.outcome = Outcome()

    def leader(self) -> ServiceProcess:
        return self._fleet.services[self._witness.fence.leader.rpartition("-")[0]]

    async def kill(self) -> None:
        """One trial; returns once the killed replica is a warm standby again."""
        await asyncio.sleep(1.0 + self._random.uniform(0, 0.8))
        leader, epoch = self.leader(), self._witness.fence.epoch
        killed_at = time.monotonic()
        leader.kill()
        await self._next_decision(epoch)
        self.outcome.takeovers.append(self._first_after(epoch) - killed_at)
        leader.start()
        await leader.wait_ready()

    async def pause(self, lease_s: float) -> None:
        await asyncio.sleep(1.0)
        leader, name, epoch = self.leader(), self._witness.fence.leader, self._witness.fence.epoch
        leader.signal(signal.SIGSTOP)
        try:
            await self._next_decision(epoch)
            await asyncio.sleep(lease_s)
            await self._forge(name, epoch)
        finally:
            leader.signal(signal.SIGCONT)
        await asyncio.sleep(LATE_S)
        await leader.wait_ready()
        self.outcome.pauses += 1

    async def _next_decision(self, epoch: int) -> None:
        if not await self._witness.until(lambda: self._first_after(epoch) > 0, LONGEST_S):
            raise RuntimeError(f"nobody decided anything for {LONGEST_S:.0f} s after epoch {epoch}")

    def _first_after(self, epoch: int) -> float:
        """When the first decision of a later epoch came; 0 before."""
        return min((at for number, at in self._witness.decided_at.items() if number > epoch), default=0.0)

    async def _forge(self, leader: str, epoch: int) -> None:
        """What a leader of this epoch might still write, by a producer of which the broker knows nothing."""
        publisher = await self._log.publisher("forger")
        for (cluster, subject), command in list(self._witness.commands.items())[:10]:
            stale = _stale(command, epoch)
            await publisher.send(NewRecord(commands_topic(cluster).name, subject.encode(), stale.to_json()))
            self.outcome.forged_commands += 1
        ghost = WorkloadPlaced(
            workload=Workload.model_validate(
                {"name": f"ghost-{epoch}", "podSets": [{"name": "main", "replicas": 1, "image": "nginx"}]}
            ),
            uid=f"ghost-{epoch}",
            workload_generation=1,
            request=RequestRef(id=f"ghost-{epoch}", published_at=1),
        )
        entry = DecisionsMade(cell="0", epoch=epoch, leader=leader, decided_at=1, decisions=(ghost,))
        await publisher.send(encode_entry(entry, cell=0, leader=leader, at_ms=time.time_ns() // 1_000_000))
        await publisher.close()
        self.outcome.forged_entries += 1

    def read_logs(self) -> None:
        """By what the paused leaders learned that they were replaced."""
        for path in sorted((self._fleet.directory / "services").glob("scheduler*.log")):
            for line in path.read_text().splitlines():
                if "replaced as leader" in line:
                    how = "broker" if "newer publisher" in line else "journal"
                    self.outcome.fenced[how] = self.outcome.fenced.get(how, 0) + 1


def _stale(command: CommandIssued, epoch: int) -> CommandIssued:
    """As if the old leader had gone on: its epoch, a later generation, and other replicas."""
    objects = tuple(
        item.model_copy(update={"manifest": {**item.manifest, "spec": {**item.manifest["spec"], "replicas": 9}}})
        for item in command.objects
    )
    update = {"epoch": epoch, "generation": command.generation + 1_000_000, "digest": "stale", "objects": objects}
    return command.model_copy(update=update)


async def measure(arguments: argparse.Namespace, directory: Path, console: Console) -> dict[str, Any]:
    spec = directory / "clusters.yaml"
    spec.write_text(specification())
    options = FleetOptions(
        directory=directory,
        clusters=SimulatedClusters(directory / "clusters", spec, provision=False),
        services=("scheduler", "watcher", "executor"),
        schedulers=2,
        say=console.print,
    )
    async with LocalFleet(options) as fleet:
        log = await KafkaLog.connect(KafkaOptions(bootstrap=fleet.kafka), "bench")
        await log.ensure_topics([commands_topic(cluster) for cluster in CLUSTERS])
        witness, ready = Witness(CLUSTERS), asyncio.Event()
        tasks = [asyncio.create_task(witness.run(log, ready)), asyncio.create_task(ask(log, arguments.rate))]
        try:
            await ready.wait()
            trials = Trials(fleet, log, witness)
            if not await witness.until(lambda: bool(witness.decided_at), LONGEST_S):
                raise RuntimeError("nothing was decided at all")
            for number in range(arguments.trials):
                await trials.kill()
                console.print(f"kill {number + 1}: {trials.outcome.takeovers[-1]:.3f} s")
            for number in range(arguments.pauses):
                await trials.pause(arguments.lease)
                console.print(f"pause {number + 1}: {witness.refused} refused, {len(witness.void)} void")
            trials.read_logs()
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await log.close()
    return summary(arguments, trials.outcome, witness)


def summary(arguments: argparse.Namespace, outcome: Outcome, witness: Witness) -> dict[str, Any]:
    times = outcome.takeovers
    ghosts = [text for text in witness.stale if "ghost" in text]

    return {
        "trials": len(times),
        "p50_s": round(quantile(times, 0.5), 3),
        "p90_s": round(quantile(times, 0.9), 3),
        "p99_s": round(quantile(times, 0.99), 3),
        "max_s": round(max(times), 3) if times else None,
        "pauses": outcome.pauses,
        "stale_writes": len(witness.stale),
        "ghosts": len(ghosts),
        "void_entries": sorted(witness.void.values()),
        "late_commands": witness.late_commands,
        "refused_by_executors": witness.refused,
        "forged_commands": outcome.forged_commands,
        "forged_entries": outcome.forged_entries,
        "learned_by": outcome.fenced,
        "epochs": witness.fence.epoch,
        "rate": arguments.rate,
        "load": round(os.getloadavg()[0], 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.failover", description=__doc__.partition("\n")[0])
    parser.add_argument("trials", type=int, nargs="?", default=100, help="times that the leader is killed")
    parser.add_argument("--pauses", type=int, default=10, help="times that the leader is paused")
    parser.add_argument("--lease", type=float, default=2.5, help="seconds that a pause lasts beyond the takeover")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second")
    parser.add_argument("--dir", type=Path, help="keep data and logs here")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    with run_directory("failover", arguments.dir) as directory:
        result = asyncio.run(measure(arguments, directory, console))
    show_figures("a leader killed, a leader paused", result, console)
    write_result(result)
    return 0 if result["stale_writes"] == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
