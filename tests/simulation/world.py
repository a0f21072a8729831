"""One simulation: the log, the clusters and the processes of a plan, from the first second to the settled end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import orjson

from services.simulator.spec import ClusterSpec, NodeGroup, Timing
from shared.events.envelope import Envelope
from shared.events.topics import ALL_TOPICS, REQUESTED, REQUESTS
from shared.ports.event_log import NewRecord
from tests.simulation.api_server import ApiServer, headers
from tests.simulation.api_server import Request as ApiRequest
from tests.simulation.broker import Broker
from tests.simulation.fleet import build
from tests.simulation.history import USERS, History, Lived
from tests.simulation.links import Link
from tests.simulation.loop import OWNER, WORLD, VirtualLoop
from tests.simulation.plan import ClusterPlan, Order, Plan, Request
from tests.simulation.process import EPOCH_MS, KilledError, Process
from tests.simulation.slots import HUB, Slot, slots_of
from tests.simulation.store import Store

_RESTART_S = 2.0
# How long a service may take to end after SIGTERM, as `drain_s` of its settings has it.
_DRAIN_S = 20.0
_WORKLOADS = "/apis/cluster.k8s.io/v1alpha1/namespaces/default/workloads"
_WORKLOAD = {"apiVersion": "cluster.k8s.io/v1alpha1", "kind": "Workload"}


class World:
    def __init__(self, plan: Plan, loop: VirtualLoop) -> None:
        self.plan = plan
        self.loop = loop
        self.history = History()
        self.broker = Broker(loop, self.history, fenced=plan.fenced)
        self.broker.create(ALL_TOPICS)
        self.store = Store()
        self.rng = random.Random(f"{plan.seed}/world")
        self.servers = {item.name: ApiServer(loop, _spec(item), plan.seed, self.history) for item in plan.clusters}
        # Those that are the fleet's.
        self.clusters = [*self.servers]
        if plan.hubs:
            spec = ClusterSpec(name=HUB, node_groups=(), controllers=False, event_limit=0)
            self.servers[HUB] = ApiServer(loop, spec, plan.seed, self.history)
        slots = slots_of(self.clusters, plan.agents, plan.schedulers, plan.hubs)
        self.slots = {slot.name: slot for slot in slots}
        self._links: dict[tuple[str, str], Link] = {}
        self.processes: list[Process] = []
        self._ids = 0
        self.verbose = False
        self._over = False

    # What processes are connected to

    def link(self, process: Process, server: str) -> Link:
        """The way of a service to a server; it stays the same through the service's lives."""
        return self.way(process.name, server)

    def way(self, service: str, server: str) -> Link:
        key = (service, server)
        if key not in self._links:
            self._links[key] = Link(self.loop, random.Random(f"{self.plan.seed}/{service}/{server}"))
        return self._links[key]

    @property
    def links(self) -> dict[tuple[str, str], Link]:
        return self._links

    def now_ms(self) -> int:
        return EPOCH_MS + int(self.loop.time() * 1000)

    def new_id(self) -> str:
        """For ids of records; repeats with the seed."""
        self._ids += 1
        return f"00000000-0000-7000-8000-{self._ids:012x}"

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        """Does something of the world's at a moment of virtual time."""
        self.loop.call_at(seconds, do, context=WORLD)

    # Processes

    def start(self, slot: Slot) -> None:
        if self._over or (slot.process is not None and slot.process.alive):
            return
        slot.incarnation += 1
        process = slot.process = Process(self.loop, slot.name, slot.incarnation, slot.skew_ms)
        self.processes.append(process)
        process.on_crash = lambda: self.kill(slot, "at an effect")
        self.tell(process, "started")
        process.spawn(self._live(slot, process))

    async def _live(self, slot: Slot, process: Process) -> None:
        """In the process's own context: builds the service, runs it, and dies with it."""
        ended, why = "failed", ""
        try:
            await build(slot.kind, process, self, slot.clusters).run(process.stop)
            ended = "stopped"
        except KilledError:
            return
        except Exception as error:  # noqa: BLE001 - a process that fails is started again, and the history says so
            why = repr(error)[:300]
        if process.alive:
            self.tell(process, ended, why)
            self.loop.call_soon(self._gone, slot, process, context=WORLD)

    def _gone(self, slot: Slot, process: Process) -> None:
        process.crash()
        self.loop.call_later(_RESTART_S, self.start, slot, context=WORLD)

    def kill(self, slot: Slot, why: str = "", down_s: float = _RESTART_S) -> None:
        process = slot.process
        if process is not None and process.alive:
            self.tell(process, "killed", why)
            process.crash()
            self.loop.call_later(down_s, self.start, slot, context=WORLD)

    def stop(self, slot: Slot) -> None:
        """SIGTERM: it drains, for a while."""
        process = slot.process
        if process is None or not process.alive:
            return
        self.tell(process, "told to stop")
        process.stop.set()

        def expire() -> None:
            if process.alive:
                self.tell(process, "did not drain in time")
                self._gone(slot, process)

        self.loop.call_later(_DRAIN_S, expire, context=WORLD)

    def tell(self, process: Process, event: str, detail: str = "") -> None:
        self.history.lives.append(Lived(self.now_ms(), str(process), event, detail))

    def complain(self, what: str) -> None:
        """A service logged an error: a defect of its own."""
        owner = OWNER.get()
        self.history.complaints.append(Lived(self.now_ms(), str(owner), "logged an error", what))

    # Users

    def send(self, request: Request) -> None:
        value = request.value.encode() if isinstance(request.value, str) else orjson.dumps(request.value)
        headers = Envelope(
            id=self.new_id(), source="users", type=REQUESTED.ce_type, time_ms=self.now_ms(), subject=request.key
        ).to_headers()
        for _ in range(2 if request.repeated else 1):
            self.broker.accept(NewRecord(REQUESTS.name, request.key.encode(), value, headers), USERS)

    def order(self, order: Order) -> None:
        """What kubectl does, once: who is refused has asked for nothing."""
        server = self.servers[HUB]
        if server.down:
            return
        path = f"{_WORKLOADS}/{order.name}"
        if order.spec is None:
            request = ApiRequest("DELETE", path, headers=headers("application/json"))
        else:
            body = {**_WORKLOAD, "metadata": {"name": order.name}, "spec": order.spec}
            query = {"fieldManager": "kubectl", "force": "true"}
            request = ApiRequest("PATCH", path, query, headers("application/apply-patch+yaml"), orjson.dumps(body))
        server.handle(request, USERS)

    async def until(self, seconds: float) -> None:
        await asyncio.sleep(seconds - self.loop.time())

    def close(self) -> None:
        """Ends every process, for good."""
        self._over = True
        for slot in self.slots.values():
            if slot.process is not None:
                slot.process.crash()


def _spec(plan: ClusterPlan) -> ClusterSpec:
    timing = Timing(pod_start=plan.pod_start_s, pod_start_jitter=plan.pod_start_s / 2)
    memory, price = f"{plan.cpu * 4}Gi", plan.price or None
    group = NodeGroup(name="small", count=plan.nodes, cpu=str(plan.cpu), memory=memory, price_per_hour=price)
    return ClusterSpec(name=plan.name, node_groups=(group,), timing=timing, event_limit=0)
