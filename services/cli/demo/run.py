"""One run of the demo: the fleet up, the stream published and followed, the report made, everything down again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from services.cli.demo.display import Display
from services.cli.demo.report import Report, make_report
from services.cli.demo.workloads import DemoRequest, stream
from services.cli.fleet import FleetError, FleetOptions, LocalFleet
from services.cli.fleet.clusters import ClusterSource
from services.cli.fleet.local import SERVICES
from services.cli.fleet.requesting import request_record
from services.cli.fleet.tracking import Trace, Tracker
from shared.adapters.kafka import KafkaLog, KafkaOptions
from shared.ports.event_log import EventLog

_SETTLE_S = 45.0
_TICK_S = 0.25
# A load that comes and goes within a minute has to be measured more often than every fifteen seconds.
_ENVIRONMENT = {"FLOTILLA_WATCHER_METRICS_S": "2"}


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`for_s` is None for a run until Ctrl-C; `rate` is in requests a second, `requests` the most of them."""

    directory: Path
    clusters: ClusterSource
    clusters_kind: str
    for_s: float | None
    rate: float
    requests: int
    seed: int


class Demo:
    def __init__(self, options: DemoOptions, display: Display) -> None:
        self._options = options
        self._display = display
        self._tracker = Tracker()
        self._stopped = asyncio.Event()
        self._errors: list[str] = []

    async def run(self) -> Report:
        """Runs to its end, to Ctrl-C, or to the first failure of a part. Raises FleetError, EmbeddedError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopped.set)
        began = time.monotonic()
        fleet_options = FleetOptions(
            directory=self._options.directory,
            clusters=self._options.clusters,
            services=(*SERVICES, "autoscaler"),
            environment=_ENVIRONMENT,
            progress=self._display.progress,
            say=self._display.say,
        )
        async with LocalFleet(fleet_options) as fleet:
            self._display.say(f"the fleet is up after {time.monotonic() - began:.1f} s")
            self._explain(fleet)
            log = await KafkaLog.connect(KafkaOptions(bootstrap=fleet.kafka), "demo")
            try:
                seconds = await self._stream(fleet, log)
            finally:
                await log.close()
            self._display.say("stopping")
        errors = self._errors + self._unscaled()
        return make_report(self._tracker, clusters=self._options.clusters_kind, seconds=seconds, errors=errors)

    async def _stream(self, fleet: LocalFleet, log: EventLog) -> float:
        ready = asyncio.Event()
        following = asyncio.create_task(self._tracker.follow(log, ready), name="follow")
        async with asyncio.timeout(30):
            await ready.wait()
        began = time.monotonic()
        publishing = asyncio.create_task(self._publish(log), name="publish")
        try:
            with self._display.live():
                await self._watch(fleet, began, publishing, following)
        finally:
            for task in (publishing, following):
                task.cancel()
            await asyncio.gather(publishing, following, return_exceptions=True)
        return time.monotonic() - began

    async def _watch(
        self, fleet: LocalFleet, began: float, publishing: asyncio.Task[None], following: asyncio.Task[None]
    ) -> None:
        """Shows how it goes until the run is over."""
        limit = self._options.for_s
        while not self._stopped.is_set():
            elapsed = time.monotonic() - began
            note = "every request is published" if publishing.done() else "publishing requests"
            self._display.update(self._tracker, elapsed, note)
            for task in (publishing, following):
                if task.done() and not task.cancelled() and (failure := task.exception()):
                    self._errors.append(f"{task.get_name()}: {failure!r}")
                    return
            try:
                fleet.check()
            except FleetError as error:
                self._errors.append(str(error))
                return
            if limit is not None and elapsed >= limit:
                settled = publishing.done() and not self._tracker.unmet and not self._unscaled()
                if settled or elapsed >= limit + _SETTLE_S:
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._stopped.wait()

    def _unscaled(self) -> list[str]:
        """What the autoscaler has not shown yet, where the load comes and goes."""
        if self._options.clusters_kind != "simulated":
            return []
        scalings = self._tracker.scalings
        grew = any(item.replicas > item.before for item in scalings)
        shrank = any(item.replicas < item.before for item in scalings)
        return [f"no workload {what}" for what, seen in (("grew", grew), ("shrank", shrank)) if not seen]

    async def _publish(self, log: EventLog) -> None:
        """At a steady rate, in the first three quarters of a limited run."""
        options = self._options
        publisher = await log.publisher("demo")
        until = time.monotonic() + (options.for_s * 0.75 if options.for_s is not None else float("inf"))
        try:
            for number, item in enumerate(stream(options.seed)):
                if number >= options.requests or time.monotonic() >= until:
                    break
                record, identity, at_ms = request_record(item.request, source="flotilla/demo")
                self._tracker.requested(item.key, Trace(at_ms, identity, item.expected))
                await publisher.send(record._replace(value=_body(item, record.value)))
                await asyncio.sleep(1 / options.rate)
            await publisher.flush()
        finally:
            await publisher.close()

    def _explain(self, fleet: LocalFleet) -> None:
        say = self._display.say
        say(f"broker {fleet.kafka}   Redis {fleet.redis}   logs {fleet.directory / 'services'}")
        say("try next, in another terminal:")
        say(f"  export KUBECONFIG={fleet.hub_kubeconfig}")
        say("  kubectl get clusters")
        say("  kubectl get workloads -A --watch")
        if self._options.for_s is None:
            say("Ctrl-C stops everything")


def _body(item: DemoRequest, good: bytes | None) -> bytes | None:
    return item.malformed or good
