"""The contract of the `KubeconfigStore` port: a directory, and a Secret on both kinds of API servers."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
import pytest_asyncio
import yaml

from services.simulator.simulator import Simulator
from services.simulator.spec import ClusterSpec
from shared.adapters.kubernetes import KubernetesApi
from shared.adapters.provisioning import KubeconfigFolder, KubeconfigSecret
from shared.adapters.provisioning.kubeconfig_secret import LIMIT_BYTES
from shared.model.identities import MANAGED_BY, MANAGED_BY_LABEL, Resource
from shared.model.provisioning import BAD_KUBECONFIG, NAME_CONFLICT, NO_ROOM
from shared.ports.cluster_api import ApiError, ClusterApi, Object
from shared.ports.provisioning import KubeconfigError, KubeconfigStore
from tests.integration.executor.support import find
from tests.testbed.secret_volume import SECRETS
from tests.unit.shared.test_kubeconfigs import SECRET, document

OWNER, OTHER = "uid-1", "uid-2"
NAMESPACE = "default"
_numbers = itertools.count(1)


class Place(Protocol):
    """Where the store under test keeps things, looked at from outside, and touched by somebody else."""

    def store(self) -> KubeconfigStore: ...

    async def files(self) -> dict[str, bytes]: ...

    async def version(self) -> object:
        """Another one after each change."""

    async def put(self, file: str, content: bytes) -> None: ...


@dataclass
class Folder:
    directory: Path

    def store(self) -> KubeconfigStore:
        return KubeconfigFolder(self.directory)

    async def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.glob("*")}

    async def version(self) -> object:
        return {path.name: path.stat().st_mtime_ns for path in self.directory.glob("*")}

    async def put(self, file: str, content: bytes) -> None:
        self.directory.mkdir(exist_ok=True)
        (self.directory / file).write_bytes(content)


@dataclass
class Secret:
    api: KubernetesApi
    name: str

    def store(self) -> KubeconfigStore:
        return KubeconfigSecret(self.api, NAMESPACE, self.name)

    async def files(self) -> dict[str, bytes]:
        found = await find(self.api, SECRETS, NAMESPACE, self.name) or {}
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}

    async def version(self) -> object:
        return (await self.api.get(SECRETS, NAMESPACE, self.name))["metadata"]["resourceVersion"]

    async def put(self, file: str, content: bytes) -> None:
        data = {"data": {file: base64.b64encode(content).decode()}}
        if await find(self.api, SECRETS, NAMESPACE, self.name) is None:
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.name}, **data}
            await self.api.create(SECRETS, NAMESPACE, body)
        else:
            await self.api.merge_patch(SECRETS, NAMESPACE, self.name, data)


@dataclass(frozen=True)
class Bed:
    """What the store is kept on; `kubeconfig` is that of the session's real cluster, of that one alone."""

    kind: str
    kubeconfig: Path | None = None


REAL = pytest.param("real", marks=pytest.mark.testbed)


def bed_of(request: pytest.FixtureRequest) -> Bed:
    kind = str(request.param)
    return Bed(kind, request.getfixturevalue("real_cluster").kubeconfig if kind == "real" else None)


@pytest.fixture(params=["folder", "simulated", REAL])
def bed(request: pytest.FixtureRequest) -> Bed:
    return bed_of(request)


@pytest.fixture(params=["simulated", REAL])
def server(request: pytest.FixtureRequest) -> Bed:
    return bed_of(request)


@asynccontextmanager
async def secret_on(bed: Bed, directory: Path) -> AsyncIterator[Secret]:
    """One that is not there yet."""
    async with AsyncExitStack() as stack:
        kubeconfig = bed.kubeconfig
        if kubeconfig is None:
            simulator = await stack.enter_async_context(Simulator(kubeconfig_dir=directory))
            await simulator.add_cluster(ClusterSpec(name="hub"))
            kubeconfig = directory / "hub.kubeconfig"
        api = await KubernetesApi.from_kubeconfig(kubeconfig)
        stack.push_async_callback(api.close)
        place = Secret(api, f"kubeconfigs-{next(_numbers)}")
        stack.push_async_callback(api.delete, SECRETS, NAMESPACE, place.name)
        yield place


@pytest_asyncio.fixture
async def place(bed: Bed, tmp_path: Path) -> AsyncIterator[Place]:
    if bed.kind == "folder":
        yield Folder(tmp_path / "agents")
        return
    async with secret_on(bed, tmp_path) as secret:
        yield secret


@pytest_asyncio.fixture
async def secret(server: Bed, tmp_path: Path) -> AsyncIterator[Secret]:
    async with secret_on(server, tmp_path) as secret:
        yield secret


async def put_in_spite_of_others(store: KubeconfigStore, name: str) -> None:
    """As the hub asks again and again."""
    while True:
        try:
            await store.write(name, OWNER, document())
        except ApiError as error:
            if not error.retryable:
                raise
        else:
            return


async def test_what_agents_get_is_written_once(place: Place) -> None:
    store = place.store()
    assert await store.write("west", OWNER, document({"token": "first"}))
    written = (await place.files())["west.kubeconfig"]
    assert yaml.safe_load(written)["users"] == [{"name": "west", "user": {"token": "first"}}]
    before = await place.version()
    assert not await store.write("west", OWNER, document({"token": "first"}))
    assert not await place.store().write("west", OWNER, document({"token": "first"}))
    assert await place.version() == before
    assert await store.write("west", OWNER, document({"token": "rotated"}))
    assert b"rotated" in (await place.files())["west.kubeconfig"]


async def test_what_is_refused_is_written_nowhere(place: Place) -> None:
    await place.store().write("east", OWNER, document())
    before = await place.files()
    with pytest.raises(KubeconfigError) as refused:
        await place.store().write("west", OWNER, document({"exec": {"command": "/bin/sh"}}))
    assert refused.value.reason == BAD_KUBECONFIG
    assert await place.files() == before


@pytest.mark.parametrize("content", [document(), b"\xff", b""])
async def test_anothers_is_neither_replaced_nor_removed(place: Place, content: bytes) -> None:
    await place.put("west.kubeconfig", content)
    with pytest.raises(KubeconfigError) as refused:
        await place.store().write("west", OWNER, document())
    assert refused.value.reason == NAME_CONFLICT
    assert not await place.store().remove("west", OWNER)
    assert await place.files() == {"west.kubeconfig": content}


async def test_another_cluster_of_the_name_is_another(place: Place) -> None:
    store = place.store()
    await store.write("west", OTHER, document())
    with pytest.raises(KubeconfigError):
        await store.write("west", OWNER, document())
    assert not await store.remove("west", OWNER)
    assert await store.remove("west", OTHER)
    assert await store.write("west", OWNER, document())


async def test_one_goes_alone_and_once(place: Place) -> None:
    store = place.store()
    assert not await store.remove("west", OWNER)
    await place.put("notes", b"by hand")
    for name in ("west", "east"):
        await store.write(name, OWNER, document())
    assert await store.remove("west", OWNER)
    assert not await store.remove("west", OWNER)
    assert (await place.files()).keys() == {"east.kubeconfig", "notes"}
    assert await store.remove("east", OWNER)
    assert await place.files() == {"notes": b"by hand"}


async def test_what_somebody_changed_is_put_right(place: Place) -> None:
    store = place.store()
    await store.write("west", OWNER, document())
    written = (await place.files())["west.kubeconfig"]
    await place.put("west.kubeconfig", written[:-20])
    assert await store.write("west", OWNER, document())
    assert await place.files() == {"west.kubeconfig": written}


async def test_clusters_that_come_and_go_together(place: Place) -> None:
    """Of one hub nothing is a conflict; two, of which one has not noticed yet that it leads no more, repeat theirs."""
    store, names = place.store(), [f"c-{number}" for number in range(20)]
    assert all(await asyncio.gather(*(store.write(name, OWNER, document()) for name in names)))
    hubs = [place.store(), place.store()]
    more = [f"d-{number}" for number in range(20)]
    await asyncio.gather(*(put_in_spite_of_others(hubs[i % 2], name) for i, name in enumerate(more)))
    assert (await place.files()).keys() == {f"{name}.kubeconfig" for name in (*names, *more)}
    assert all(await asyncio.gather(*(store.remove(name, OWNER) for name in names)))
    assert (await place.files()).keys() == {f"{name}.kubeconfig" for name in more}


# What is the Secret's alone


async def test_it_is_made_once_and_what_others_say_of_it_stays(secret: Secret) -> None:
    await secret.store().write("west", OWNER, document())
    found = await secret.api.get(SECRETS, NAMESPACE, secret.name)
    assert (found["type"], found["metadata"]["labels"]) == ("Opaque", {MANAGED_BY_LABEL: MANAGED_BY})
    await secret.api.merge_patch(SECRETS, NAMESPACE, secret.name, {"metadata": {"labels": {"team": "fleet"}}})
    await secret.store().write("east", OWNER, document())
    after = await secret.api.get(SECRETS, NAMESPACE, secret.name)
    assert after["metadata"]["uid"] == found["metadata"]["uid"]
    assert after["metadata"]["labels"]["team"] == "fleet"


class Meanwhile:
    """A connection behind whose reads somebody else is quick."""

    def __init__(self, api: ClusterApi, act: Callable[[], Awaitable[None]]) -> None:
        self._api = api
        self._act = act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        try:
            return await self._api.get(resource, namespace, name)
        finally:
            await self._act()


@pytest.mark.parametrize("there", [True, False])
async def test_what_came_between_look_and_write_stays(secret: Secret, there: bool) -> None:
    if there:
        await secret.put("notes", b"by hand")

    async def quick() -> None:
        await secret.put("west.kubeconfig", b"by hand")

    store = KubeconfigSecret(cast("ClusterApi", Meanwhile(secret.api, quick)), NAMESPACE, secret.name)
    with pytest.raises((ApiError, KubeconfigError)) as refused:
        await store.write("west", OWNER, document())
    assert getattr(refused.value, "reason", "") == ("Conflict" if there else NAME_CONFLICT)
    assert (await secret.files())["west.kubeconfig"] == b"by hand"


async def test_it_holds_as_much_as_the_api_server_takes_and_then_says_what_to_do(secret: Secret, server: Bed) -> None:
    store = secret.store()
    await store.write("west", OWNER, document())
    size = len((await secret.files())["west.kubeconfig"])
    await secret.put("filler", b"x" * (LIMIT_BYTES - 2 * size + 1))
    before = await secret.files()
    with pytest.raises(KubeconfigError, match="install the chart flotilla-agent in this one") as refused:
        await store.write("east", OWNER, document())
    assert refused.value.reason == NO_ROOM
    assert await secret.files() == before
    if server.kubeconfig is not None:
        # Of one byte less it would have taken it, as it does below; of this one not.
        with pytest.raises(ApiError, match="may not be more than 1048576 bytes"):
            await secret.put("east.kubeconfig", b"x" * size)
    await secret.put("filler", b"x" * (LIMIT_BYTES - 2 * size))
    assert await store.write("east", OWNER, document())
    # What it has already may always be written anew.
    assert await store.write("east", OWNER, document({"token": SECRET[:-1]}))


async def test_a_namespace_that_is_not_there_is_said(secret: Secret, server: Bed) -> None:
    if server.kubeconfig is None:
        pytest.skip("the simulator takes objects into any namespace")
    with pytest.raises(ApiError) as missing:
        await KubeconfigSecret(secret.api, "nowhere", "kubeconfigs").write("west", OWNER, document())
    assert missing.value.code == 404
