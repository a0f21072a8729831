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
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.testbed import commands, metrics, nodes
from tests.testbed.api import MERGE_PATCH, Api, ApiError
from tests.testbed.installation import binaries, stages
from tests.testbed.load import LoadProfile
from tests.testbed.nodes import NodeShape
from tests.testbed.pki import Authority, KeyPair, write_key, write_kubeconfig
from tests.testbed.process import POLL_S, Component, ComponentError, Port

STORE: Final = ("etcd", "kube-apiserver")
CONTROL_PLANE: Final = (*STORE, "kube-controller-manager", "kube-scheduler")
EVERYTHING: Final = (*CONTROL_PLANE, "kwok")

START_DEADLINE_S: Final = 120.0  # for each component; an idle machine needs 2 s, one that builds beside it much longer
STOP_GRACE_S: Final = 5.0

# The user and groups that each component is, as kubeadm makes them; kwok is all kubelets at once.
IDENTITIES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kwok": ("kwok", ("system:masters",)),
    "admin": ("admin", ("system:masters",)),
}


class KubectlError(RuntimeError):
    """kubectl ended with an error; the message is what it wrote to stderr."""


class RealCluster:
    """One cluster; see the module.

    `components` chooses what runs, `node_grace_s` is how soon a silent node is NotReady, `with_metrics` adds
    `metrics.k8s.io`.
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
    ) -> None:
        self.name = name
        self.components: dict[str, Component] = {}
        self._wanted = tuple(components)
        self._nodes = nodes
        self._shape = shape or NodeShape()
        self._node_grace_s = node_grace_s
        self._with_metrics = with_metrics
        self._given_data = data
        self._data: Path | None = None
        self._api: Api | None = None
        self._ports: dict[str, Port] = {}
        self._binaries = binaries()

    # -- life --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        if self._data is not None:
            raise RuntimeError(f"cluster {self.name} is started already")
        try:
            layout = self._prepare()
            for component in STORE:
                await self.components[component].start(START_DEADLINE_S)
            rest = [c for name, c in self.components.items() if name not in STORE]
            if "kwok" in self._ports:
                self._ports["kwok"].release()  # kwok cannot share its port
            await asyncio.gather(*(component.start(START_DEADLINE_S) for component in rest))
            if "kube-controller-manager" in self.components:
                await self._wait(self._can_create_pods, "the default service account", START_DEADLINE_S)
            if self._with_metrics:
                await metrics.register(
                    self.api, layout.authority.certificate.read_bytes(), layout.ports[metrics.COMPONENT].number
                )
                await self._wait(
                    lambda: metrics.available(self.api), "metrics.k8s.io to be available", START_DEADLINE_S
                )
            if self._nodes:
                await self.create_nodes(self._nodes, self._shape)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End everything, the API server after its clients and etcd last; remove the data that `start` made."""
        clients = [c for name, c in self.components.items() if name not in STORE]
        await asyncio.gather(*(component.stop(STOP_GRACE_S) for component in clients))
        for name in reversed(STORE):
            if name in self.components:
                await self.components[name].stop(STOP_GRACE_S)
        for port in self._ports.values():
            port.release()
        if self._data is not None and self._given_data is None:
            shutil.rmtree(self._data)
        self._data, self._api = None, None
        self.components, self._ports = {}, {}

    # -- how to reach it -----------------------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        """The directory of its certificates, kubeconfigs, logs and etcd."""
        if self._data is None:
            raise RuntimeError(f"cluster {self.name} is not running")
        return self._data

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; its context has the cluster's name."""
        return self.data / "admin.kubeconfig"

    @property
    def api(self) -> Api:
        """The administrator's plain JSON client."""
        if self._api is None:
            raise RuntimeError(f"cluster {self.name} is not running")
        return self._api

    async def kubectl(self, *arguments: str, stdin: str | None = None, within: float = 60.0) -> str:
        """What the real kubectl prints for this cluster; raises KubectlError with what it complains."""
        process = await asyncio.create_subprocess_exec(
            self._binaries["kubectl"], *arguments,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            # A discovery cache of its own: the user's is keyed by address, and ports come back.
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.data / "kubectl")},
        )  # fmt: skip
        try:
            out, complaint = await asyncio.wait_for(
                process.communicate(stdin.encode() if stdin is not None else None), within
            )
        except BaseException:
            with contextlib.suppress(ProcessLookupError):  # it ended in the meantime
                process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {complaint.decode(errors='replace').strip()}")
        return out.decode()

    def resident_bytes(self) -> dict[str, int]:
        """Resident memory of each component."""
        return {name: component.resident_bytes() for name, component in self.components.items()}

    def set_load(self, profile: LoadProfile) -> None:
        """What the pods use from now on, as `metrics.k8s.io` says it."""
        new = self.data / "load.json.new"
        new.write_text(profile.model_dump_json())
        new.rename(self.data / "load.json")

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
            await asyncio.gather(*(self.api.call("POST", "/api/v1/nodes", manifest(name)) for name in batch))
        if "kwok" in self.components:
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
        await asyncio.gather(*(self.api.call("DELETE", f"/api/v1/nodes/{name}") for name in names))

    async def cordon(self, names: Iterable[str], *, unschedulable: bool = True) -> None:
        await self._patch_nodes(names, {"spec": {"unschedulable": unschedulable}})

    async def fail_nodes(self, names: Iterable[str]) -> None:
        """Take their kubelets away: the heartbeats stop, and after `node_grace_s` the cluster says NotReady."""
        await self._patch_nodes(names, {"metadata": {"annotations": {nodes.ANNOTATION: None}}})

    async def recover_nodes(self, names: Iterable[str]) -> None:
        await self._patch_nodes(names, {"metadata": {"annotations": {nodes.ANNOTATION: "fake"}}})

    async def _patch_nodes(self, names: Iterable[str], patch: Mapping[str, Any]) -> None:
        calls = (self.api.call("PATCH", f"/api/v1/nodes/{n}", patch, content=MERGE_PATCH) for n in names)
        await asyncio.gather(*calls)

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
        await self.components[component].start(START_DEADLINE_S)

    # -- making --------------------------------------------------------------------------------------------------

    def _prepare(self) -> commands.Layout:
        """Make the directory, the certificates, the ports and (not yet running) components."""
        self._data = self._given_data or Path(tempfile.mkdtemp(prefix=f"flotilla-{self.name}-"))
        self._data.mkdir(parents=True, exist_ok=True)
        self._data = self._data.resolve()
        authority = Authority(self._data / "pki", "kubernetes")
        front_proxy = Authority(self._data / "pki" / "front-proxy", "front-proxy")
        wanted = (*self._wanted, metrics.COMPONENT) if self._with_metrics else self._wanted
        self._ports = {name: Port() for name in (*wanted, "etcd-peer")}
        server = f"https://127.0.0.1:{self._ports['kube-apiserver']}"
        kubeconfigs: dict[str, Path] = {}
        clients: dict[str, KeyPair] = {}
        for component, (user, groups) in IDENTITIES.items():
            clients[component] = authority.client(user, groups)
            kubeconfigs[component] = self._data / f"{component}.kubeconfig"
            write_kubeconfig(
                kubeconfigs[component],
                cluster=self.name,
                server=server,
                authority=authority.files.certificate,
                user=user,
                client=clients[component],
            )
        self._api = Api(server, authority.files.certificate, clients["admin"])
        token_key = self._data / "pki" / "tokens.key"
        write_key(token_key)
        layout = commands.Layout(
            data=self._data,
            binaries=self._binaries,
            stages=stages(),
            ports=self._ports,
            authority=authority.files,
            server=authority.server("kube-apiserver", (*SERVER_NAMES, metrics.HOST)),
            admin=clients["admin"],
            front_proxy_authority=front_proxy.files,
            proxy_client=front_proxy.client("front-proxy-client"),
            token_key=token_key,
            kubeconfigs=kubeconfigs,
            node_grace_s=self._node_grace_s,
        )
        for name in wanted:
            log = self._data / f"{name}.log"
            self.components[name] = Component(name, commands.command(name, layout), log, self._ready(name))
        return layout

    def _ready(self, component: str) -> Callable[[], Awaitable[bool]]:
        scheme, path = HEALTH[component]
        url = f"{scheme}://127.0.0.1:{self._ports[component]}{path}"
        return lambda: self.api.healthy(url)

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


SERVER_NAMES: Final = (
    "127.0.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
HEALTH: Final[Mapping[str, tuple[str, str]]] = {
    "etcd": ("http", "/readyz"),
    "kube-apiserver": ("https", "/readyz"),
    "kube-controller-manager": ("https", "/healthz"),
    "kube-scheduler": ("https", "/readyz"),
    "kwok": ("http", "/readyz"),
    metrics.COMPONENT: ("https", "/readyz"),
}


def hub_cluster(name: str = "hub", *, data: Path | None = None) -> RealCluster:
    """A cluster for the hub's own resources: custom resources, webhooks and leases, but no controllers and no pods."""
    return RealCluster(name, components=STORE, data=data)
