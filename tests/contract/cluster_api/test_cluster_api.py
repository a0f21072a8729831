"""The contract of the `ClusterApi` port: one suite, on the simulator, on the simulation's and on a real kube-apiserver.

"simulation" is what `tests/simulation` connects services to: the same client over a transport without a network.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec, NodeGroup
from shared.adapters.kubernetes import KubernetesApi, ListWatchPolicy
from shared.model.identities import Resource
from shared.ports.cluster_api import ApiError, ApplyOptions, Change, ChangeType, Selection
from tests.simulation.api_client import SimTransport
from tests.simulation.api_server import ApiServer
from tests.simulation.history import History
from tests.simulation.links import Link
from tests.simulation.loop import VirtualLoop
from tests.simulation.process import Process

CONFIG_MAPS = Resource("", "v1", "configmaps")
NAMESPACES = Resource("", "v1", "namespaces")
NODES = Resource("", "v1", "nodes")
PODS = Resource("", "v1", "pods")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
SYNC_STARTED, SYNC_FINISHED = ChangeType.SYNC_STARTED, ChangeType.SYNC_FINISHED


Connect = Callable[[ListWatchPolicy | None], Awaitable[KubernetesApi]]


@pytest.fixture(params=["simulator", "simulation", pytest.param("real", marks=pytest.mark.testbed)])
def server(request: pytest.FixtureRequest) -> str | Path:
    return Path(request.getfixturevalue("real_cluster").kubeconfig) if request.param == "real" else str(request.param)


@pytest.fixture
async def connect(server: str | Path, tmp_path: Path) -> AsyncIterator[Connect]:
    spec = ClusterSpec(name="contract", node_groups=(NodeGroup(count=3),))
    if server == "simulation":
        yield simulated(spec)
        return
    async with AsyncExitStack() as stack:
        if not isinstance(server, Path):
            simulator = await stack.enter_async_context(Simulator(kubeconfig_dir=tmp_path))
            await simulator.add_cluster(spec)
            server = tmp_path / "contract.kubeconfig"
        kubeconfig = server
        yield lambda policy: KubernetesApi.from_kubeconfig(kubeconfig, policy=policy)


def simulated(spec: ClusterSpec) -> Connect:
    """Its clock is the event loop's, which is here the real one."""
    loop = cast("VirtualLoop", asyncio.get_running_loop())
    process, link = Process(loop, "contract", 1), Link(loop, random.Random(1))
    server = ApiServer(loop, spec, 1, History())

    async def connect(policy: ListWatchPolicy | None) -> KubernetesApi:
        return KubernetesApi(SimTransport(process, server, link), policy=policy)

    return connect


@pytest.fixture
async def api(connect: Connect) -> AsyncIterator[KubernetesApi]:
    connection = await connect(None)
    yield connection
    await connection.close()


@pytest.fixture
async def namespace(api: KubernetesApi) -> AsyncIterator[str]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    await api.create(NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await until(lambda: exists(api, SERVICE_ACCOUNTS, name, "default"))
    yield name
    await api.delete(NAMESPACES, "", name)


async def exists(api: KubernetesApi, resource: Resource, namespace: str, name: str) -> bool:
    try:
        await api.get(resource, namespace, name)
    except ApiError as error:
        if error.code == 404:
            return False
        raise
    return True


async def until(condition: Callable[[], Awaitable[bool]], within: float = 30) -> None:
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.1)


def config_map(name: str, *, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    meta = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, **({"data": data} if data else {})}


async def test_version_and_discovery(api: KubernetesApi) -> None:
    assert (await api.version()).startswith("v1.36.")
    info = await api.resource_info("apps/v1", "Deployment")
    assert (info.resource, info.kind, info.namespaced) == (DEPLOYMENTS, "Deployment", True)
    assert {"get", "list", "watch", "patch"} <= info.verbs
    assert {"status", "scale"} <= info.subresources
    assert await api.discover(DEPLOYMENTS) == info
    nodes = await api.discover(NODES)
    assert nodes is not None
    assert not nodes.namespaced
    assert await api.discover(Resource("example.com", "v1", "ghosts")) is None
    with pytest.raises(ApiError) as caught:
        await api.resource_info("apps/v1", "Ghost")
    assert (caught.value.code, caught.value.reason) == (404, "KindNotServed")


async def test_create_get_replace_patch_delete(api: KubernetesApi, namespace: str) -> None:
    created = await api.create(CONFIG_MAPS, namespace, config_map("a", x="1"))
    with pytest.raises(ApiError) as caught:
        await api.create(CONFIG_MAPS, namespace, config_map("a"))
    assert (caught.value.code, caught.value.reason) == (409, "AlreadyExists")

    patched = await api.merge_patch(CONFIG_MAPS, namespace, "a", {"data": {"x": None, "y": "2"}})
    assert patched["data"] == {"y": "2"}
    with pytest.raises(ApiError) as caught:
        await api.replace(CONFIG_MAPS, namespace, "a", {**created, "data": {"z": "3"}})
    assert (caught.value.code, caught.value.reason) == (409, "Conflict")
    replaced = await api.replace(CONFIG_MAPS, namespace, "a", {**patched, "data": {"z": "3"}})
    assert (await api.get(CONFIG_MAPS, namespace, "a"))["data"] == replaced["data"] == {"z": "3"}

    with pytest.raises(ApiError) as caught:
        await api.delete(CONFIG_MAPS, namespace, "a", uid=str(uuid.uuid4()))
    assert caught.value.code == 409
    await api.delete(CONFIG_MAPS, namespace, "a", uid=created["metadata"]["uid"])
    assert not await exists(api, CONFIG_MAPS, namespace, "a")
    await api.delete(CONFIG_MAPS, namespace, "a")


async def test_apply_owns_its_fields(api: KubernetesApi, namespace: str) -> None:
    mine, theirs = ApplyOptions("mine", force=False), ApplyOptions("theirs", force=False)
    await api.apply(CONFIG_MAPS, namespace, "a", config_map("a", x="1", y="1"), mine)
    with pytest.raises(ApiError) as caught:
        await api.apply(CONFIG_MAPS, namespace, "a", config_map("a", x="2"), theirs)
    assert (caught.value.code, caught.value.reason) == (409, "Conflict")

    dry = await api.apply(CONFIG_MAPS, namespace, "a", config_map("a", x="2"), ApplyOptions("theirs", dry_run=True))
    assert dry["data"]["x"] == "2"
    assert (await api.get(CONFIG_MAPS, namespace, "a"))["data"] == {"x": "1", "y": "1"}
    await api.apply(CONFIG_MAPS, namespace, "a", config_map("a", x="2"), ApplyOptions("theirs"))
    after = await api.apply(CONFIG_MAPS, namespace, "a", config_map("a"), mine)
    assert after["data"] == {"x": "2"}


async def test_an_invalid_object_is_refused_with_its_reason(api: KubernetesApi, namespace: str) -> None:
    with pytest.raises(ApiError) as caught:
        await api.create(CONFIG_MAPS, namespace, config_map("Not A Name"))
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    assert not caught.value.retryable


async def test_a_pod_is_bound_through_its_subresource(api: KubernetesApi, namespace: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "nginx"}]},
    }
    await api.create(PODS, namespace, pod)
    node = (await api.list(NODES))[0]["metadata"]["name"]
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": node},
    }
    await api.create(PODS, namespace, binding, subresource="binding", name="p")

    assert (await api.get(PODS, namespace, "p"))["spec"]["nodeName"] == node
    with pytest.raises(ApiError) as caught:
        await api.create(PODS, namespace, binding, subresource="binding", name="p")
    assert caught.value.code == 409


async def test_lists_select_and_page(connect: Connect, namespace: str) -> None:
    paged = await connect(ListWatchPolicy(page_size=2))
    for number in range(7):
        await paged.create(CONFIG_MAPS, namespace, config_map(f"m{number}", labels={"odd": str(number % 2)}))

    everything = await paged.list(CONFIG_MAPS, Selection(namespace, fields="metadata.name!=kube-root-ca.crt"))
    odd = await paged.list(CONFIG_MAPS, Selection(namespace, labels="odd=1"))
    await paged.close()

    assert [item["metadata"]["name"] for item in everything] == [f"m{number}" for number in range(7)]
    assert {(item["kind"], item["apiVersion"]) for item in everything} == {("ConfigMap", "v1")}
    assert [item["metadata"]["name"] for item in odd] == ["m1", "m3", "m5"]


# List and watch


class Following:
    """A running list and watch, and what it said so far."""

    def __init__(self, api: KubernetesApi, selection: Selection) -> None:
        self._api = api
        self._selection = selection
        self.changes: list[Change] = []
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        async with aclosing(self._api.list_watch_batches(CONFIG_MAPS, self._selection)) as batches:
            async for changes in batches:
                self.changes += changes
                self._arrived.set()

    async def until(self, condition: Callable[[list[Change]], bool], within: float = 30) -> None:
        async with asyncio.timeout(within):
            while not condition(self.changes):
                self._arrived.clear()
                await self._arrived.wait()

    def said(self) -> list[tuple[str, str]]:
        return [(change.type.value, change.name) for change in self.changes if change.type is not ChangeType.BOOKMARK]


@asynccontextmanager
async def following(connect: Connect, namespace: str, policy: ListWatchPolicy) -> AsyncIterator[Following]:
    api = await connect(policy)
    watch = Following(api, Selection(namespace, fields="metadata.name!=kube-root-ca.crt"))
    task = asyncio.create_task(watch.run())
    try:
        yield watch
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "paged"])
async def test_list_then_watch(api: KubernetesApi, connect: Connect, namespace: str, *, streamed: bool) -> None:
    for name in ("a", "b", "c"):
        await api.create(CONFIG_MAPS, namespace, config_map(name))
    policy = ListWatchPolicy(streamed_lists=streamed, page_size=2, without_managed_fields=True)
    async with following(connect, namespace, policy) as watch:
        await watch.until(lambda changes: any(change.type is SYNC_FINISHED for change in changes))
        await api.merge_patch(CONFIG_MAPS, namespace, "a", {"data": {"x": "1"}})
        await api.delete(CONFIG_MAPS, namespace, "b")
        await api.create(CONFIG_MAPS, namespace, config_map("d"))
        await watch.until(lambda changes: changes[-1].name == "d")
        listed = next(change for change in watch.changes if change.name == "c")
        deleted = next(change for change in watch.changes if change.type is ChangeType.DELETED)

    assert watch.said() == [
        ("SYNC_STARTED", ""),
        ("LISTED", "a"),
        ("LISTED", "b"),
        ("LISTED", "c"),
        ("SYNC_FINISHED", ""),
        ("MODIFIED", "a"),
        ("DELETED", "b"),
        ("ADDED", "d"),
    ]
    truth = await api.get(CONFIG_MAPS, namespace, "c")
    truth["metadata"].pop("managedFields", None)
    assert json.loads(listed.raw) == truth
    assert (listed.uid, listed.resource_version) == (truth["metadata"]["uid"], truth["metadata"]["resourceVersion"])
    assert int(deleted.resource_version) > int(listed.resource_version)


async def test_a_watch_that_the_server_ends_goes_on_without_a_list(
    api: KubernetesApi, connect: Connect, namespace: str
) -> None:
    async with following(connect, namespace, ListWatchPolicy(watch_timeout_s=1)) as watch:
        await watch.until(lambda changes: any(change.type is SYNC_FINISHED for change in changes))
        for number in range(8):
            await api.create(CONFIG_MAPS, namespace, config_map(f"m{number}"))
            await asyncio.sleep(0.4)
        await watch.until(lambda changes: any(change.name == "m7" for change in changes))

    assert watch.said() == [("SYNC_STARTED", ""), ("SYNC_FINISHED", "")] + [("ADDED", f"m{n}") for n in range(8)]


async def test_a_resource_that_is_not_served_is_waited_for(connect: Connect) -> None:
    policy = ListWatchPolicy(backoff_max_s=0.2)
    api = await connect(policy)
    errors = []
    async with asyncio.timeout(30), aclosing(api.list_watch(Resource("example.com", "v1", "ghosts"))) as changes:
        async for change in changes:
            errors.append(change.error)
            if len(errors) == 3:
                break
    await api.close()

    assert [error.code if error else None for error in errors] == [404, 404, 404]
