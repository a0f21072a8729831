"""One life of the state: restored from the log, then followed, looked at, and told.

What must not be lost is read by explicit positions (`fleet.placements`, `fleet.status`, `fleet.objects`,
`fleet.clusters`, `fleet.results`, and for what the last autoscaler said `fleet.scaling`, `fleet.sampling`,
`fleet.usage`, `fleet.nodegroups` and `fleet.waiting`); samples come from faust, and are put right by the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from services.autoscaler import metrics
from services.autoscaler.decision.workloads import ScaledWorkloads
from services.autoscaler.journal import decision_record
from services.autoscaler.node_groups import NodeGroups
from services.autoscaler.observed import owned_pod, running_generation
from services.autoscaler.settings import AutoscalerSettings
from services.autoscaler.windows import Windows
from shared.adapters.clock import SteadyClock
from shared.events.envelope import SEQ, Envelope, number_of
from shared.events.registry import DecodeError, decode
from shared.events.topics import (
    CLUSTERS,
    NODE_GROUPS,
    OBJECTS,
    PLACEMENTS,
    REQUESTS_DECIDED,
    RESULTS,
    SAMPLING,
    SCALING,
    SCALING_DECIDED,
    STATUS,
    USAGE,
    WAITING,
    Topic,
)
from shared.events.v1.metrics import AskedMetricsSampled, PodMetricsSampled
from shared.events.v1.placements import PlacementPublished
from shared.events.v1.sampling import SampledMetric, SamplingRequested
from shared.events.v1.scaling import WorkloadScaled
from shared.events.v1.usage import UsageLearned
from shared.model.base import Value
from shared.model.identities import ObjectKey, heartbeat_cluster, is_object_key
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.event_log import START, EventLog, NewRecord, Partition, Publisher, Reader, Record
from shared.runtime.dead_letters import dead_letter
from shared.runtime.ids import new_id

log = get_logger(__name__)

REMEMBERED = (SCALING.name, SAMPLING.name, USAGE.name, NODE_GROUPS.name, WAITING.name)
FOLLOWED = (PLACEMENTS.name, STATUS.name, OBJECTS.name, CLUSTERS.name)
_READ_S = 0.2
_TICK_S = 0.25
_PODS = "pods"
_MOST_LETTERS = 1000


class Session:
    def __init__(
        self,
        events: EventLog,
        reader: Reader,
        publisher: Publisher,
        windows: Windows,
        workloads: ScaledWorkloads,
        clock: Clock,
        settings: AutoscalerSettings,
    ) -> None:
        self._log = events
        self._reader = reader
        self._publisher = publisher
        self._windows = windows
        self._workloads = workloads
        # Windows, limits of age and delays are measured by a clock that nobody sets; schedules are people's.
        self._clock, self._calendar = SteadyClock(clock), clock
        self._settings = settings
        self._generations: dict[str, int] = {}
        self._fresh: set[str] = set()
        self._woken = asyncio.Event()
        self._gone: set[str] = set()
        self._sampled: dict[str, tuple[SampledMetric, ...]] = {}
        self._placed: set[str] = set()
        self._letters: list[NewRecord] = []
        self._samples_at: dict[int, int] = {}
        self._nodes = NodeGroups(events, publisher, self._clock, settings, self._inputs, workloads.life)
        self._restoring = True

    async def restore(self, stop: asyncio.Event) -> bool:
        """Knows all that the log has afterwards; False if it was stopped before. Raises LogError."""
        for topics in (REMEMBERED, FOLLOWED):
            places = {p: START for name in topics for p in await self._log.partitions(name)}
            if topics is FOLLOWED:
                places |= await self._results_from()
            await self._reader.assign(places)
            ends = await self._reader.end_offsets(self._reader.positions())
            while any(at < ends[partition] for partition, at in self._reader.positions().items()):
                if stop.is_set():
                    return False
                await self._read(_READ_S)
        self._restoring = False
        # From now on positions count, as inputs of what is told.
        self._gone.update(self._workloads.forgotten())
        self._placed.update(self._sampled)
        log.info("caught up", scaled=len(self._workloads))
        return True

    async def _results_from(self) -> dict[Partition, int]:
        """Where orders of node groups say that results had been read; without any, from now on."""
        partitions = await self._log.partitions(RESULTS.name)
        await self._reader.assign(dict.fromkeys(partitions, START))
        first, ends = self._reader.positions(), await self._reader.end_offsets(partitions)
        read = self._nodes.results_read
        return {place: max(first[place], read.get(place.partition, ends[place])) for place in partitions}

    async def follow(self, stop: asyncio.Event, working: Callable[[], None]) -> None:
        """Looks at every workload in its time, and when samples come, until it is stopped. Raises LogError.

        `working` is called when samples can come.
        """
        async with self._windows.open(self._take, stop), asyncio.TaskGroup() as tasks:
            working()
            reading = tasks.create_task(self._follow_inputs(), name="inputs")
            tasks.create_task(self._nodes.run(stop), name="node groups")
            try:
                while not stop.is_set():
                    await self._round()
                    await self._wait()
            finally:
                reading.cancel()

    async def _follow_inputs(self) -> None:
        while True:
            await self._read(1.0)
            await asyncio.sleep(0)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_TICK_S):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    # --- reading ---

    async def _read(self, timeout_s: float) -> None:
        for record in await self._reader.read(max_records=self._settings.autoscaler_batch, timeout_s=timeout_s):
            try:
                self._fold(record)
            except DecodeError as error:
                self._refuse(record, error)

    def _fold(self, record: Record) -> None:
        key = (record.key or b"").decode(errors="replace")
        if record.topic == OBJECTS.name:
            self._fold_object(key, record)
        elif record.topic == PLACEMENTS.name:
            self._fold_placement(key, record)
        elif record.topic == STATUS.name:
            running = running_generation(record.value) if record.value is not None else None
            self._workloads.applying.observe_running(key, running)
        elif record.topic == CLUSTERS.name:
            self._nodes.declare(key, record.value)
        elif record.topic == RESULTS.name:
            self._nodes.report(record.value)
        elif record.topic == NODE_GROUPS.name:
            self._nodes.restore(key, record.value)
        elif record.topic == WAITING.name:
            self._nodes.restore_waiting(key, record.value)
        elif record.topic == SAMPLING.name:
            asked = () if record.value is None else decode(SamplingRequested, record.value).metrics
            self._sampled[key] = asked
        elif record.topic == USAGE.name:
            told = None if record.value is None else decode(UsageLearned, record.value)
            self._workloads.learned.restore(key, told)
        else:
            self._workloads.restore(key, None if record.value is None else decode(WorkloadScaled, record.value))

    def _fold_object(self, key: str, record: Record) -> None:
        now_ms = self._clock.now_ms()
        heard_at = min(now_ms, record.timestamp_ms) if self._restoring else now_ms
        if not is_object_key(key):
            cluster = heartbeat_cluster(record.key or b"")
            if cluster is not None:
                self._nodes.hear(cluster, record.value, heard_at)
            return
        at = ObjectKey.parse(key)
        if at.resource.plural == _PODS and not at.resource.group:
            pod = f"{at.cluster}/{at.namespace}/{at.name}"
            self._workloads.observe_pod(pod, None if record.value is None else owned_pod(pod, record.value))
        self._nodes.observe(at, record.value, heard_at)

    def _fold_placement(self, key: str, record: Record) -> None:
        """Readers go by the generation: what is older may stand behind what is newer."""
        if record.value is None:
            by = number_of(record.headers, SEQ)
            if by is not None and by < self._generations.get(key, 0):
                return
            self._generations.pop(key, None)
            gone = self._workloads.place(key, None)
            self._nodes.place(key, None)
        else:
            published = decode(PlacementPublished, record.value)
            if published.placement is None or published.generation < self._generations.get(key, 0):
                return
            self._generations[key] = published.generation
            gone = self._workloads.place(key, published.placement, published.generation)
            self._nodes.place(key, published.placement)
        self._placed.add(key)
        if gone:
            self._gone.add(key)

    def _refuse(self, record: Record, error: DecodeError) -> None:
        """Not of what is read anew at every start: its other readers bury it."""
        first = error.errors[0]
        log.warning("record refused", position=str(record.position), field=first.field, reason=first.reason)
        metrics.DEAD_LETTERS.labels(record.topic).inc()
        if record.topic not in {*REMEMBERED, *FOLLOWED, RESULTS.name} and len(self._letters) < _MOST_LETTERS:
            self._letters.append(dead_letter(record, error.errors))

    def _take(self, record: Record) -> None:
        """A record of `fleet.metrics`, from faust."""
        self._samples_at[record.partition] = record.offset + 1
        scope = (record.key or b"").rpartition(b"/")[2]
        if record.value is None or scope not in {b"pods", b"asked"}:
            return
        now_ms = self._clock.now_ms()
        try:
            if scope == b"pods":
                used = decode(PodMetricsSampled, record.value)
                cluster, fresh = used.cluster, self._workloads.observe_samples(used, now_ms)
            else:
                asked = decode(AskedMetricsSampled, record.value)
                cluster, fresh = asked.cluster, self._workloads.observe_asked(asked, now_ms)
        except DecodeError as error:
            self._refuse(record, error)
            return
        metrics.SAMPLES.labels(cluster).inc()
        self._fresh |= fresh
        self._woken.set()

    # --- deciding and telling ---

    async def _round(self) -> None:
        """Whoever is due is looked at, and what follows is acknowledged."""
        metrics.WORKLOADS.set(len(self._workloads))
        told: list[tuple[str, WorkloadScaled]] = []
        for key in self._due():
            with metrics.EVALUATE_SECONDS.time():
                said = self._workloads.look(key, self._clock.now_ms(), self._calendar.now_ms())
            if said is not None:
                told.append((key, said))
        inputs = self._inputs()
        await self._record(inputs)
        for key, said in told:
            self._count(said)
            await self._send(SCALING, key, said.model_copy(update={"inputs": inputs}))
        sent = len(told)
        for key in sorted(self._gone):
            if key not in self._workloads:
                sent += 1
                await self._send(SCALING, key, None)
        self._gone.clear()
        sent += await self._ask()
        for key, learned in self._workloads.learned.due(self._clock.now_ms()):
            sent += 1
            await self._send(USAGE, key, learned)
        letters, self._letters = self._letters, []
        await self._publisher.send_many(letters)
        if sent or letters:
            await self._publisher.flush()

    async def _record(self, inputs: dict[str, dict[int, int]]) -> None:
        """What was decided stands in the journal before anybody is told of it."""
        scaled, requests = self._workloads.take_decided(), self._workloads.applying.take_decided()
        now_ms = self._clock.now_ms()
        for item in scaled:
            body = item.model_copy(update={"scaled": item.scaled.model_copy(update={"inputs": inputs})})
            await self._publisher.send(decision_record(SCALING_DECIDED, item.workload, body, now_ms))
        for each in requests:
            said = each.model_copy(update={"inputs": inputs})
            await self._publisher.send(decision_record(REQUESTS_DECIDED, each.workload, said, now_ms))
        if scaled or requests:
            await self._publisher.flush()

    async def _ask(self) -> int:
        """Tells watchers what else is to be measured, where that is not what stands in the log; how many records."""
        sent = 0
        for key in sorted(self._placed):
            wanted, known = self._workloads.sampled(key), self._sampled.get(key, ())
            if wanted != known:
                sent += 1
                await self._send(SAMPLING, key, SamplingRequested(metrics=wanted) if wanted else None)
            if wanted:
                self._sampled[key] = wanted
            else:
                self._sampled.pop(key, None)
        self._placed.clear()
        return sent

    def _due(self) -> Iterable[str]:
        now_ms = self._clock.now_ms()
        period_ms = round(self._settings.autoscaler_evaluation_period_s * 1000)
        reaction_ms = round(self._settings.autoscaler_reaction_s * 1000)
        due = []
        for key in self._workloads:
            since = self._workloads.since_ms(key, now_ms)
            fresh = key in self._fresh and self._workloads.reacts(key)
            if since is None or since >= period_ms or (fresh and since >= reaction_ms):
                occasion = "sample" if fresh else "period"
                metrics.EVALUATIONS.labels(occasion).inc()
                due.append(key)
        self._fresh.difference_update(due)
        self._fresh.intersection_update(self._workloads)
        return due

    def _count(self, said: WorkloadScaled) -> None:
        for pod_set in said.pod_sets:
            metrics.FAILED.inc(bool(pod_set.error))
            if pod_set.replicas is not None and pod_set.replicas != pod_set.before:
                metrics.SCALED.labels("more" if pod_set.replicas > pod_set.before else "fewer").inc()
        metrics.REQUESTS_APPLIED.inc(sum(item.at == said.evaluated_at for item in said.requests))

    def _inputs(self) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {"fleet.metrics": dict(self._samples_at)}
        for (topic, number), offset in self._reader.positions().items():
            found.setdefault(topic, {})[number] = offset
        return found

    async def _send(self, topic: Topic, key: str, body: Value | None) -> None:
        headers = Envelope(
            id=new_id(),
            source="flotilla/autoscaler",
            type=topic.messages[0].ce_type,
            time_ms=self._clock.now_ms(),
            subject=key,
        ).to_headers()
        metrics.PUBLISHED.inc()
        value = body.to_json() if body is not None else None
        await self._publisher.send(NewRecord(topic.name, key.encode(), value, headers))
