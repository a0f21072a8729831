"""One simulated cluster: its state, its controllers, and what happens to its nodes. Pure; its driver brings time."""

from __future__ import annotations

from collections.abc import Callable

from services.simulator.controllers.daemonset import DaemonSetController
from services.simulator.controllers.deployment import DeploymentController
from services.simulator.controllers.disruption import DisruptionController
from services.simulator.controllers.engine import Controller, Engine
from services.simulator.controllers.events import Recorder
from services.simulator.controllers.garbage import GarbageCollector, OrphanedPodCollector
from services.simulator.controllers.job import JobController
from services.simulator.controllers.kubelet import KubeletController, pods_to_resume
from services.simulator.controllers.namespaces import DefinitionController, NamespaceController
from services.simulator.controllers.node_lifecycle import LeaseController, NodeLifecycleController
from services.simulator.controllers.nodes import NODE_GROUP, make_node
from services.simulator.controllers.replicaset import ReplicaSetController
from services.simulator.controllers.scheduler import SchedulerController
from services.simulator.controllers.statefulset import StatefulSetController
from services.simulator.core.meta import timestamp
from services.simulator.core.state import INITIAL_NAMESPACES, NAMESPACES, NODES, ClusterState
from services.simulator.spec import ClusterSpec, NodeGroup

DEFAULT_WINDOW = 10_000


class Cluster:
    """`on_work` is told when the controllers have something to do; the driver then calls `run`."""

    def __init__(
        self,
        spec: ClusterSpec,
        *,
        now: float,
        on_work: Callable[[], None],
        seed: str = "flotilla",
        window: int = DEFAULT_WINDOW,
        first_version: int = 1,
    ) -> None:
        self.spec = spec
        self.state = ClusterState(
            spec.name, version=spec.version, now=now, seed=seed, first_version=first_version, window=window
        )
        self.events = Recorder(self.state, spec.event_limit if spec.controllers else 0)
        self._kubelet = KubeletController(spec.timing, self.events)
        self._lifecycle = NodeLifecycleController(spec.timing, self.events)
        self.engine = Engine(self.state, self._controllers(), on_work)
        self._next_index: dict[str, int] = {}
        self._seed_objects()
        for group in spec.node_groups:
            self.add_nodes(group, group.count)

    def _controllers(self) -> list[Controller]:
        always: list[Controller] = [NamespaceController(), DefinitionController(), GarbageCollector()]
        if not self.spec.controllers:
            return always
        return [
            *always,
            OrphanedPodCollector(self.spec.timing.orphan_grace),
            self._lifecycle,
            LeaseController(self.spec.timing),
            DeploymentController(self.events),
            ReplicaSetController(self.events),
            StatefulSetController(self.events),
            DaemonSetController(self.events),
            JobController(self.events),
            DisruptionController(self.state),
            SchedulerController(self.events),
            self._kubelet,
        ]

    def _seed_objects(self) -> None:
        for name in INITIAL_NAMESPACES:
            self.state.store.insert(
                NAMESPACES,
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {
                        "name": name,
                        "uid": self.state.ids.uid(),
                        "creationTimestamp": timestamp(self.state.now),
                        "labels": {"kubernetes.io/metadata.name": name},
                    },
                    "spec": {"finalizers": ["kubernetes"]},
                    "status": {"phase": "Active"},
                },
            )

    def add_nodes(self, group: NodeGroup, count: int) -> list[str]:
        """Adds nodes of a group; their names."""
        names = []
        for _ in range(count):
            index = self._next_index.get(group.name, 0)
            self._next_index[group.name] = index + 1
            node = make_node(self.state, self.spec, group, index)
            self.state.store.insert(NODES, node)
            names.append(node["metadata"]["name"])
        return names

    def nodes_of(self, group: str) -> list[str]:
        """Names of the nodes that have a group's label."""
        nodes = (item.object["metadata"] for item in self.state.items(NODES))
        return [meta["name"] for meta in nodes if (meta.get("labels") or {}).get(NODE_GROUP) == group]

    def remove_node(self, name: str) -> None:
        self.state.silent_nodes.discard(name)
        if self.state.find(NODES, "", name) is not None:
            self.state.store.remove(NODES, ("", name))

    def fail_node(self, name: str) -> None:
        """The kubelet falls silent; the cluster notices after the node's grace."""
        self.state.silent_nodes.add(name)
        if self.spec.controllers:
            self.engine.request(self._lifecycle, ("health", name))

    def recover_node(self, name: str) -> None:
        self.state.silent_nodes.discard(name)
        if not self.spec.controllers:
            return
        self.engine.request(self._lifecycle, ("health", name))
        for key in pods_to_resume(self.state, name):
            self.engine.request(self._kubelet, key)

    def run(self, now: float, budget: int = 500) -> bool:
        """Moves the clock and reconciles what is due; True if more is ready."""
        self.state.advance(now)
        return self.engine.run(budget)

    def settle(self, until: float, limit: int = 1_000_000) -> None:
        """Runs in virtual time until nothing is left to do before a moment. For tests and tools."""
        for _ in range(limit):
            due = self.engine.next_due()
            if due is None or due > until:
                self.state.advance(until)
                return
            self.run(max(due, self.state.now))
        raise RuntimeError(f"the controllers of {self.spec.name} do not settle")
