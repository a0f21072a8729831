"""At most once: whatever happens in whatever order, no workload that asks for it is run by two clusters at once.

Executors obey the newest command of their topic when they come to it, which may be late, and report what they withdrew.
A cluster that is not heard goes on running what it was told last; its executor stops what runs by its lease as late as
it may. Nobody says that nothing runs anywhere: that would be his promise and not the scheduler's.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.scheduler.decision.asked.rendering import render_commands
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.seen.troubles import DRAINING_KEY
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.commands import CommandIssued
from shared.events.v1.decisions import WorkloadForgotten, WorkloadPlaced
from shared.events.v1.leases import LEASE_MS
from shared.model.taints import Taint
from tests.scheduling import World, image, workload

CLUSTERS = ("east", "north", "west")
# The last one runs by leases.
WORKLOADS = ("a", "b", "leased")
_NAMES = st.sampled_from(WORKLOADS)
_SILENT = {"key": "flotilla.dev/silent", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
# Until the executor has stopped what ran by its lease: that is over, and pods had their grace period.
_STOPPED_MS = LEASE_MS + 30_000
_CLUSTERS = st.sampled_from(CLUSTERS)
_DRAINING = Taint(key=DRAINING_KEY, effect="NoExecute")
_STEP_MS = 1_000


class AtMostOnce(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(SchedulerConfig(placements_per_call=4))
        self.silent: set[str] = set()
        self.commands: dict[tuple[str, str], CommandIssued] = {}
        self.running: set[tuple[str, str]] = set()
        # Clusters whose executors are not heard, and do not hear; when each last asked, and what was answered.
        self.isolated: set[str] = set()
        self.leases: dict[str, tuple[int, frozenset[str]]] = {}
        self.number = 0

    @initialize(sizes=st.tuples(*[st.integers(0, 2)] * len(CLUSTERS)))
    def fleet(self, sizes: tuple[int, ...]) -> None:
        for cluster, size in zip(CLUSTERS, sizes, strict=True):
            self.world.cluster(cluster)
            for number in range(size):
                self.world.node(cluster, f"n{number}")

    @rule(
        name=_NAMES,
        sets=st.lists(st.integers(0, 4), min_size=1, max_size=2),
        cpu=st.sampled_from(("1", "3")),
        only=st.sampled_from(((), (), CLUSTERS[:1], CLUSTERS[1:])),
        priority=st.sampled_from((0, 0, 5)),
        gang=st.sampled_from(({}, {}, {"gang": {}}, {"gang": {"scope": "workload"}})),
    )
    def request(
        self, name: str, sets: list[int], cpu: str, only: tuple[str, ...], priority: int, gang: dict[str, Any]
    ) -> None:
        pods = [image(f"s{number}", replicas, cpu) for number, replicas in enumerate(sets)]
        terms = {"atMostOnce": True, "clusters": only, **gang}
        if name == "leased":
            terms["tolerations"] = [_SILENT]
        self.decided(self.world.apply(workload(name, *pods, placement=terms, priority=priority)))

    @rule(name=_NAMES)
    def delete(self, name: str) -> None:
        self.decided(self.world.delete(name))

    @rule(cluster=_CLUSTERS, name=_NAMES)
    def executor(self, cluster: str, name: str) -> None:
        command = self.commands.get((cluster, f"workload/default/{name}"))
        if command is None or cluster in self.isolated:
            return
        if command.action == "run":
            asked_at, subjects = self.leases.get(cluster, (0, frozenset()))
            if command.leased and (command.subject not in subjects or self.world.now - asked_at >= LEASE_MS):
                return
            self.running.add((cluster, name))
        else:
            self.running.discard((cluster, name))
            self.world.withdrawn(cluster, name, command.generation)

    @rule(cluster=_CLUSTERS, name=_NAMES, data=st.data())
    def an_old_report_comes_again(self, cluster: str, name: str, data: st.DataObject) -> None:
        command = self.commands.get((cluster, f"workload/default/{name}"))
        if command is not None and command.generation:
            self.world.withdrawn(cluster, name, data.draw(st.integers(0, command.generation - 1)))

    @rule(cluster=_CLUSTERS)
    def falls_silent(self, cluster: str) -> None:
        self.silent.add(cluster)

    @rule(cluster=_CLUSTERS, seconds=st.sampled_from((0, 40, 90)))
    def is_cut_off(self, cluster: str, seconds: int) -> None:
        self.silent.add(cluster)
        self.isolated.add(cluster)
        self.time_passes(seconds)

    @rule(cluster=_CLUSTERS)
    def is_heard_again(self, cluster: str) -> None:
        self.silent.discard(cluster)
        self.isolated.discard(cluster)

    @rule(cluster=_CLUSTERS, tainted=st.booleans())
    def is_tainted(self, cluster: str, tainted: bool) -> None:
        declared = ClusterDeclared(name=cluster, taints=(_DRAINING,) if tainted else ())
        self.world.state.declare_cluster(cluster, declared)

    @rule(cluster=_CLUSTERS, number=st.integers(0, 2), there=st.booleans())
    def node(self, cluster: str, number: int, there: bool) -> None:
        if there:
            self.world.node(cluster, f"n{number}")
        else:
            self.world.no_node(cluster, f"n{number}")

    @rule(seconds=st.sampled_from((1, 3, 40)))
    def time_passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.world.now += _STEP_MS
            for cluster in CLUSTERS:
                if cluster not in self.silent:
                    self.world.cluster(cluster)
            for cluster in CLUSTERS:
                self.keep_lease(cluster)
            self.decided(self.world.pending())
            self.it_runs_at_most_once()

    def keep_lease(self, cluster: str) -> None:
        now, name = self.world.now, "leased"
        command = self.commands.get((cluster, f"workload/default/{name}"))
        if cluster not in self.isolated and command is not None and command.leased:
            self.number += 1
            asked = self.world.ask_lease(cluster, command.subject, number=self.number)
            subjects = frozenset(self.world.state.grant(cluster, asked).subjects)
            self.leases[cluster] = (now, subjects)
            if not subjects:
                self.running.discard((cluster, name))
        if now - self.leases.get(cluster, (0, frozenset()))[0] >= _STOPPED_MS:
            self.running.discard((cluster, name))

    @rule()
    def all_is_well_in_the_end(self) -> None:
        """What has room somewhere runs."""
        self.silent.clear()
        self.isolated.clear()
        for cluster in CLUSTERS:
            self.is_tainted(cluster, tainted=False)
        for _ in range(4):
            self.time_passes(3)
            for cluster, subject in sorted(self.commands):
                self.executor(cluster, subject.rpartition("/")[2])
        self.time_passes(3)
        for placed in self.world.placements.values():
            assert len(placed.commanded) <= 1
            for item in placed.pod_sets:
                assert item.reason != "AwaitingWithdrawal"
                assert (item.placed < item.desired) == bool(item.reason)

    @invariant()
    def it_runs_at_most_once(self) -> None:
        for name in WORKLOADS:
            where = sorted(cluster for cluster, of in self.running if of == name)
            assert len(where) <= 1, f"{name} runs in {where}"

    def decided(self, decisions: list[Any]) -> None:
        start = len(self.world.journal) - len(decisions)
        for generation, decision in enumerate(decisions, start):
            if isinstance(decision, WorkloadPlaced):
                for cluster in decision.retired:
                    self.commands.pop((cluster, decision.workload.key.subject), None)
                for command in render_commands(decision, 1, generation):
                    self.commands[command.cluster, command.subject] = command
            elif isinstance(decision, WorkloadForgotten):
                for key in [key for key in self.commands if key[1] == f"workload/{decision.key}"]:
                    del self.commands[key]


TestAtMostOnce = AtMostOnce.TestCase
TestAtMostOnce.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
