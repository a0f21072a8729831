"""The ways in which the world breaks. Each method is a kind of fault; a plan names it, its target and its numbers."""

from __future__ import annotations

from tests.simulation.history import Lived
from tests.simulation.links import Mishap
from tests.simulation.plan import Fault
from tests.simulation.process import Process
from tests.simulation.world import World

_MISHAPS = tuple(Mishap)


class Faults:
    def __init__(self, world: World) -> None:
        self._world = world

    def befall(self, fault: Fault) -> None:
        self._world.history.lives.append(Lived(self._world.now_ms(), fault.target, "befallen", fault.kind))
        getattr(self, fault.kind)(fault)

    def heal(self) -> None:
        """From now on nothing breaks any more, and whatever is broken is whole again."""
        world = self._world
        for link in world.links.values():
            link.mishaps.clear()
            link.lossy = link.lossy_appends = link.portion = 0
            link.down_until = 0.0
            link.delay_s = 0.002
        for server in world.servers.values():
            server.heal()
        for slot in world.slots.values():
            if slot.process is not None:
                slot.process.crash_at = None
                self._resume(slot.process)

    # Processes

    def kill(self, fault: Fault) -> None:
        """SIGKILL; it is down for `seconds`."""
        self._world.kill(self._world.slots[fault.target], "by the plan", max(fault.seconds, 0.5))

    def outage(self, fault: Fault) -> None:
        """SIGKILL, and for `seconds` nobody starts it again: long enough for others to speak of it."""
        self.kill(fault)

    def kill_at_effect(self, fault: Fault) -> None:
        """SIGKILL just before the `number`-th thing that it asks of the world from now on."""
        process = self._world.slots[fault.target].process
        if process is not None:
            process.crash_at = process.effects + fault.number

    def pause(self, fault: Fault) -> None:
        """SIGSTOP for `seconds`."""
        process = self._world.slots[fault.target].process
        if process is not None and process.alive:
            self._world.tell(process, "paused")
            process.pause()
            self._world.at(self._world.loop.time() + fault.seconds, lambda: self._resume(process))

    def _resume(self, process: Process) -> None:
        if process.alive and process.held is not None:
            self._world.tell(process, "resumed")
            process.resume()

    def stop(self, fault: Fault) -> None:
        """SIGTERM."""
        process = self._world.slots[fault.target].process
        if process is not None and process.alive:
            self._world.stop(self._world.slots[fault.target])

    def jump_clock(self, fault: Fault) -> None:
        """The wall clock jumps by `number` milliseconds, in this life and later ones."""
        slot = self._world.slots[fault.target]
        slot.skew_ms = fault.number
        if slot.process is not None:
            slot.process.clock.skew_ms = fault.number

    # The log

    def cut_log(self, fault: Fault) -> None:
        """A service cannot reach the log for `seconds`."""
        self._world.way(fault.target, "log").cut(fault.seconds)

    def slow_log(self, fault: Fault) -> None:
        """Its messages to and from the log take `number` milliseconds for `seconds`."""
        self._slow(fault, "log")

    def lose_log_calls(self, fault: Fault) -> None:
        """One of its next calls of the log goes wrong: `number` says in which way."""
        self._world.way(fault.target, "log").mishaps.append(_MISHAPS[fault.number % len(_MISHAPS)])

    def lossy_log(self, fault: Fault) -> None:
        """Of its calls of the log `number` in a hundred go wrong for `seconds`."""
        link = self._world.way(fault.target, "log")
        link.lossy = fault.number

        def heal() -> None:
            link.lossy = 0

        self._world.at(self._world.loop.time() + fault.seconds, heal)

    def lossy_appends(self, fault: Fault) -> None:
        """Of its appends, but not those to the journal, `number` in a hundred go wrong for `seconds`."""
        link = self._world.way(fault.target, "log")
        link.lossy_appends = fault.number

        def heal() -> None:
            link.lossy_appends = 0

        self._world.at(self._world.loop.time() + fault.seconds, heal)

    def short_reads(self, fault: Fault) -> None:
        """The log gives a service few records at a time, for `seconds`."""
        link = self._world.way(fault.target, "log")
        link.portion = 1 + fault.number

        def heal() -> None:
            link.portion = 0

        self._world.at(self._world.loop.time() + fault.seconds, heal)

    def clean_log(self, _: Fault) -> None:
        """The log cleaner runs."""
        self._world.broker.clean(lag_ms=15_000, tombstone_ms=150_000)
        self._world.broker.retire(60_000)

    def lose_broker(self, fault: Fault) -> None:
        """Broker `number` is cut off from the others for `seconds`."""
        self._world.broker.cut_off(fault.number, min(fault.seconds, 5.0))

    def _slow(self, fault: Fault, server: str) -> None:
        link = self._world.way(fault.target, server)
        link.delay_s = fault.number / 1000

        def heal() -> None:
            link.delay_s = 0.002

        self._world.at(self._world.loop.time() + fault.seconds, heal)

    # The read model's store

    def cut_store(self, fault: Fault) -> None:
        """The status service cannot reach its store for `seconds`."""
        self._world.way("status", "store").cut(fault.seconds)

    def wipe_store(self, _: Fault) -> None:
        """The store loses everything."""
        self._world.store.wipe()

    # Clusters

    def cut_off(self, fault: Fault) -> None:
        """The agents of a cluster, which has its own, cannot reach the log for `seconds`; what it runs runs on."""
        for slot in self._world.slots.values():
            if slot.clusters == (fault.target,):
                self._world.way(slot.name, "log").cut(fault.seconds)

    # API servers

    def cut_api(self, fault: Fault) -> None:
        """An API server answers nobody for `seconds`."""
        self._world.servers[fault.target].go_away(fault.seconds)

    def slow_api(self, fault: Fault) -> None:
        """It takes `number` milliseconds longer for `seconds`."""
        server = self._world.servers[fault.target]
        server.troubles.latency_s = fault.number / 1000
        self._later(fault, server.heal)

    def throttle_api(self, fault: Fault) -> None:
        """`number` of a hundred requests are answered with 429 for `seconds`."""
        server = self._world.servers[fault.target]
        server.troubles.throttled = fault.number / 100
        self._later(fault, server.heal)

    def fail_api(self, fault: Fault) -> None:
        """`number` of a hundred requests are answered with 500 or 503 for `seconds`."""
        server = self._world.servers[fault.target]
        server.troubles.failing = fault.number / 100
        self._later(fault, server.heal)

    def lose_api_calls(self, fault: Fault) -> None:
        """`number` of a hundred requests are never seen, as many are done and never answered, for `seconds`."""
        server = self._world.servers[fault.target]
        server.troubles.lost = server.troubles.unanswered = fault.number / 200
        self._later(fault, server.heal)

    def stale_api(self, fault: Fault) -> None:
        """A watch cache stands still for `seconds`: for another `number` than 0 that of a replica which only lists."""
        server = self._world.servers[fault.target]
        server.go_stale(watches=fault.number == 0)
        self._later(fault, server.heal)

    def drop_watches(self, fault: Fault) -> None:
        self._world.servers[fault.target].drop_watches()

    def forget_api(self, fault: Fault) -> None:
        """Watches break, and no earlier version is known any more: 410."""
        server = self._world.servers[fault.target]
        server.forget()
        server.drop_watches()

    def _later(self, fault: Fault, heal: object) -> None:
        assert callable(heal)
        self._world.at(self._world.loop.time() + fault.seconds, heal)
