"""A complete Kubernetes cluster on loopback, from its real components; kwok plays the kubelets.

    async with RealCluster("west", nodes=3) as cluster:
        print(await cluster.kubectl("get", "nodes"), cluster.kubeconfig)

Invariants:

- `start` returns when every component says that it is ready, the nodes are Ready and pods can be created, or raises
  with the end of the log of the component that is to blame; then nothing is left running.
- `stop` (also on the way out of a failed start) ends every process that this object started, and no other.
- No state belongs to an event loop: a cluster started in one loop can be used and stopped in another.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from services.simulator import asked_metrics
from services.simulator.asked_metrics import MetricValues
from tests.testbed import commands, metrics, nodes
from tests.testbed.api import MERGE_PATCH, Api, ApiError
from tests.testbed.kubectl import run_kubectl
from tests.testbed.layout import LOOPBACK, Layout, make_layout
from tests.testbed.load import LoadProfile
from tests.testbed.nodes import NodeShape
from tests.testbed.process import POLL_S, Component, ComponentError, together

STORE: Final = ("etcd", "kube-apiserver")
CONTROL_PLANE: Final = (*STORE, "kube-controller-manager", "kube-scheduler")
EVERYTHING: Final = (*CONTROL_PLANE, "kwok")

START_DEADLINE_S: Final = 120.0  # for each component; an idle machine needs 2 s, one that builds beside it much longer
STOP_GRACE_S: Final = 5.0
HEALTH: Final[Mapping[str, tuple[str, str]]] = {
    "etcd": ("http", "/readyz"),
    "kube-apiserver": ("https", "/readyz"),
    "kube-controller-manager": ("https", "/healthz"),
    "kube-scheduler": ("https", "/readyz"),
    "kwok": ("http", "/readyz"),
    metrics.COMPONENT: ("https", "/readyz"),
}


class RealCluster:
    """One cluster; see the module.

    `components` chooses what runs, `node_grace_s` is how soon a silent node is NotReady, `with_metrics` adds
    `metrics.k8s.io` (on loopback only), `host` is the local address on which it listens. `flags` are added to a
    component's command line.
    """

    def __init__(
        self,
        name: str = "real",
        *,
        components: Sequence[str] = EVERYTHING,
        nodes: int = 0,
        shape: NodeShape | None = None,
        node_grace_s: float = 50.0,
        with_metrics: bool = False,
        data: Path | None = None,
        host: str = LOOPBACK,
        flags: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.name = name
        self.components: dict[str, Component] = {}
        self._wanted = (*components, metrics.COMPONENT) if with_metrics else tuple(components)
        self._nodes = nodes
        self._shape = shape or NodeShape()
        self._node_grace_s = node_grace_s
        self._given_data = data
        self._host = host
        self._flags = flags or {}
        self._layout: Layout | None = None
        self._api: Api | None = None

    # -- life --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        if self._layout is not None:
            raise RuntimeError(f"cluster {self.name} is started already")
        try:
            await self._start_all(self._prepare())
        except BaseException:
            await self.stop()
            raise

    async def _start_all(self, layout: Layout) -> None:
        for component in STORE:
            await self.components[component].start(START_DEADLINE_S)
        if "kwok" in layout.ports:
            layout.ports["kwok"].release()  # kwok cannot share its port
        clients = [c for name, c in self.components.items() if name not in STORE]
        await together(component.start(START_DEADLINE_S) for component in clients)
        if "kube-controller-manager" in self.components:
            await self._wait(self._can_create_pods, "the default service account", START_DEADLINE_S)
        if metrics.COMPONENT in self.components:
            authority = layout.authority.certificate.read_bytes()
            await metrics.register(self.api, authority, layout.ports[metrics.COMPONENT].number)
            await self._wait(lambda: metrics.available(self.api), "metrics.k8s.io", START_DEADLINE_S)
        if self._nodes:
            await self.create_nodes(self._nodes, self._shape)

    async def stop(self) -> None:
        """End everything, the API server after its clients and etcd last; remove the data that `start` made."""
        clients = [c for name, c in self.components.items() if name not in STORE]
        await together(component.stop(STOP_GRACE_S) for component in clients)
        for name in reversed(STORE):
            if name in self.components:
                await self.components[name].stop(STOP_GRACE_S)
        layout, self._layout, self._api, self.components = self._layout, None, None, {}
        if layout is not None:
            for port in layout.ports.values():
                port.release()
            if self._given_data is None:
                shutil.rmtree(layout.data)

    # -- how to reach it -----------------------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        """Its directory, ports, certificates and kubeconfigs."""
        if self._layout is None:
            raise RuntimeError(f"cluster {self.name} is not running")
        return self._layout

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; its context has the cluster's name."""
        return self.layout.kubeconfigs["admin"]

    @property
    def api(self) -> Api:
        """The administrator's plain JSON client."""
        if self._api is None:
            raise RuntimeError(f"cluster {self.name} is not running")
        return self._api

    async def kubectl(self, *arguments: str, stdin: str | None = None, within: float = 60.0) -> str:
        """What the real kubectl prints for this cluster; raises KubectlError with what it complains of."""
        cache = self.layout.data / "kubectl"
        return await run_kubectl(self.kubeconfig, *arguments, stdin=stdin, within=within, cache=cache)

    def resident_bytes(self) -> dict[str, int]:
        """Resident memory of each component."""
        return {name: component.resident_bytes() for name, component in self.components.items()}

    def set_load(self, profile: LoadProfile) -> None:
        """What the pods use from now on, as `metrics.k8s.io` says it."""
        new = self.layout.data / "load.json.new"
        new.write_text(profile.model_dump_json())
        new.rename(self.layout.data / "load.json")

    async def measure(self, values: MetricValues, within: float = 30.0) -> None:
        """What `custom.metrics.k8s.io` and `external.metrics.k8s.io` say from now on; registers them at first."""
        served, new = self.layout.data / "asked.json", self.layout.data / "asked.json.new"
        first = not served.exists()
        new.write_text(values.model_dump_json(by_alias=True))
        new.rename(served)
        if first:
            authority = self.layout.authority.certificate.read_bytes()
            await metrics.register_asked(self.api, authority, self.layout.ports[metrics.COMPONENT].number)
        wanted = asked_metrics.versions()
        await self._wait(lambda: metrics.available(self.api, wanted), "custom and external metrics", within)

    # -- nodes ---------------------------------------------------------------------------------------------------

    async def create_nodes(
        self, count: int, shape: NodeShape | None = None, *, prefix: str | None = None, within: float = 60.0
    ) -> list[str]:
        """Add nodes with the next free numbers after the prefix; returns their names when all are Ready."""
        prefix = prefix or f"{self.name}-node"
        taken = {node["metadata"]["name"] for node in await self._list_nodes()}
        numbers = (number for number in range(len(taken) + count) if f"{prefix}-{number}" not in taken)
        names = [f"{prefix}-{number}" for number, _ in zip(numbers, range(count), strict=False)]
        manifest = (shape or self._shape).manifest
        for batch in (names[i : i + 50] for i in range(0, count, 50)):
            await together(self.api.call("POST", "/api/v1/nodes", manifest(name)) for name in batch)
        if "kwok" in self.components and "kube-controller-manager" in self.components:
            await self.wait_nodes(names, ready=True, within=within)
        return names

    async def wait_nodes(self, names: Iterable[str], *, ready: bool, within: float) -> None:
        """Until all the nodes are Ready, or none is."""
        wanted = set(names)

        async def settled() -> bool:
            listed = [n for n in await self._list_nodes() if n["metadata"]["name"] in wanted]
            return len(listed) == len(wanted) and all(nodes.is_ready(n) is ready for n in listed)

        await self._wait(settled, f"nodes {sorted(wanted)} {'Ready' if ready else 'not Ready'}", within)

    async def delete_nodes(self, names: Iterable[str]) -> None:
        await together(self.api.call("DELETE", f"/api/v1/nodes/{name}") for name in names)

    async def cordon(self, names: Iterable[str], *, unschedulable: bool = True) -> None:
        await self._patch_nodes(names, {"spec": {"unschedulable": unschedulable}})

    async def fail_nodes(self, names: Iterable[str]) -> None:
        """Take their kubelets away: the heartbeats stop, and after `node_grace_s` the cluster says NotReady."""
        await self._patch_nodes(names, {"metadata": {"labels": {nodes.KWOK_LABEL: None}}})

    async def recover_nodes(self, names: Iterable[str]) -> None:
        await self._patch_nodes(names, {"metadata": {"labels": {nodes.KWOK_LABEL: "fake"}}})

    async def _patch_nodes(self, names: Iterable[str], patch: Mapping[str, Any]) -> None:
        await together(self.api.call("PATCH", f"/api/v1/nodes/{n}", patch, content=MERGE_PATCH) for n in names)

    async def _list_nodes(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self.api.call("GET", "/api/v1/nodes"))["items"]
        return listed

    # -- faults --------------------------------------------------------------------------------------------------

    def kill(self, component: str) -> None:
        """kill -9; `restart` brings it back on the same port with the same data."""
        self.components[component].kill()

    def pause(self, component: str) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        self.components[component].send(signal.SIGSTOP)

    def resume(self, component: str) -> None:
        self.components[component].send(signal.SIGCONT)

    async def restart(self, component: str) -> None:
        """Stop it if it runs, start it again and wait until it is ready."""
        await self.components[component].stop(STOP_GRACE_S)
        if component == "kwok":
            # A new kwok is another holder: it would leave the nodes alone until the old one's leases expire (40 s).
            await self.api.call("DELETE", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")
        await self.components[component].start(START_DEADLINE_S)

    # -- making --------------------------------------------------------------------------------------------------

    def _prepare(self) -> Layout:
        """Make the directory with all that is in it, and the components, which do not run yet."""
        data = self._given_data or Path(tempfile.mkdtemp(prefix=f"flotilla-{self.name}-"))
        data.mkdir(parents=True, exist_ok=True)
        self._layout = layout = make_layout(self.name, data.resolve(), self._wanted, self._node_grace_s, self._host)
        self._api = Api(layout.url("kube-apiserver"), layout.authority.certificate, layout.admin)
        for name in self._wanted:
            command = [*commands.command(name, layout), *self._flags.get(name, ())]
            self.components[name] = Component(name, command, layout.data / f"{name}.log", self._ready(name, self._api))
        return layout

    def _ready(self, component: str, api: Api) -> Callable[[], Awaitable[bool]]:
        scheme, path = HEALTH[component]
        url = self.layout.url(component, scheme) + path
        return lambda: api.healthy(url)

    async def _can_create_pods(self) -> bool:
        """Admission refuses pods until the controllers have made the namespace's service account."""
        try:
            await self.api.call("GET", "/api/v1/namespaces/default/serviceaccounts/default")
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def _wait(self, done: Callable[[], Awaitable[bool]], what: str, within: float) -> None:
        deadline = time.monotonic() + within
        while not await done():
            if time.monotonic() > deadline:
                raise ComponentError(f"cluster {self.name}: waited {within:.0f} s in vain for {what}")
            await asyncio.sleep(POLL_S)


def hub_cluster(name: str = "hub", *, data: Path | None = None, host: str = LOOPBACK) -> RealCluster:
    """A cluster for the hub's own resources: custom resources, webhooks and leases, but no controllers and no pods."""
    return RealCluster(name, components=STORE, data=data, host=host)
