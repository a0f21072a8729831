"""The read model over HTTP: pages, filters, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from services.hub.rest import Rest, openapi
from shared.adapters.memory.key_value import MemoryKeyValue
from shared.events.v1.objects import ClusterObserved
from shared.events.v1.read_model import CLUSTERS_TABLE, WORKLOADS_TABLE, ClusterView
from shared.events.v1.status import Condition, Phase
from shared.model.identities import WorkloadKey
from shared.ports.key_value import KeyValue, KeyValueError
from shared.testing.clock import FakeClock
from tests.unit.hub.world import status_of

Client = TestClient[web.Request, web.Application]


CLOCK = FakeClock()
NOW = CLOCK.now_ms()


async def client_of(store: KeyValue) -> Client:
    app = web.Application()
    app.router.add_routes(Rest(store, CLOCK).routes())
    client = TestClient(TestServer(app))
    await client.start_server()
    return client


def view(name: str, *, ready: bool, region: str, age_ms: int = 0) -> ClusterView:
    observed = ClusterObserved(
        cluster=name, epoch=1, observed_at=1, interval_ms=5_000, ready=ready, labels={"region": region}
    )
    condition = Condition(type="ObjectsConsistent", status="True", reason="Compared", last_transition_at=1)
    return ClusterView(
        cluster=name, observed=observed, heard_at=NOW - age_ms, silent=False, ready=ready, conditions=(condition,)
    )


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    store = MemoryKeyValue()
    phases = [Phase.RUNNING, Phase.PENDING]
    workloads = {}
    for number in range(25):
        key = WorkloadKey("even" if number % 2 == 0 else "odd", f"w{number:02}")
        status = status_of(key, phases[number % 2], clusters=["west"] if number < 3 else ["east"])
        workloads[str(key)] = status.to_json()
    await store.write(WORKLOADS_TABLE, workloads)
    clusters = [view("west", ready=True, region="eu"), view("east", ready=False, region="us")]
    await store.write(CLUSTERS_TABLE, {item.cluster: item.to_json() for item in clusters})
    client = await client_of(store)
    yield client
    await client.close()


async def get(client: Client, path: str, status: int = 200) -> dict[str, Any]:
    async with client.get(path) as response:
        assert response.status == status, await response.text()
        assert response.content_type == "application/json"
        body: dict[str, Any] = await response.json()
        return body


def names(page: dict[str, Any]) -> list[str]:
    return [f"{item['namespace']}/{item['name']}" for item in page["items"]]


async def test_one_of_each(client: Client) -> None:
    assert (await get(client, "/cluster/west"))["observed"]["labels"] == {"region": "eu"}
    assert (await get(client, "/workload/even/w02"))["phase"] == "Running"


async def test_what_is_not_there_is_404(client: Client) -> None:
    assert (await get(client, "/cluster/none", 404))["reason"] == "NotFound"
    assert "workload odd/w02" in (await get(client, "/workload/odd/w02", 404))["message"]


async def test_pages_hold_everything_once_and_in_order(client: Client) -> None:
    seen: list[str] = []
    token, pages = "", 0
    while True:
        page = await get(client, f"/workload?limit=10&continue={token}")
        seen += names(page)
        pages += 1
        token = page["continue"]
        if not token:
            break
    assert pages == 3
    assert len(seen) == 25
    assert seen == sorted(set(seen))


async def test_a_full_last_page_says_that_it_is_the_last(client: Client) -> None:
    assert (await get(client, "/workload?limit=25"))["continue"] == ""


async def test_filters_of_workloads(client: Client) -> None:
    running = names(await get(client, "/workload?phase=Running"))
    assert len(running) == 13
    assert all(name.startswith("even/") for name in running)
    assert names(await get(client, "/workload?phase=Running,Pending&cluster=west")) == [
        "even/w00",
        "even/w02",
        "odd/w01",
    ]
    assert len(names(await get(client, "/workload?namespace=odd&limit=3"))) == 3


async def test_filters_and_pages_go_together(client: Client) -> None:
    first = await get(client, "/workload?namespace=odd&limit=7")
    second = await get(client, f"/workload?namespace=odd&limit=7&continue={first['continue']}")
    assert len(first["items"]) == 7
    assert len(second["items"]) == 5
    assert second["continue"] == ""


async def test_filters_of_clusters(client: Client) -> None:
    ready = await get(client, "/cluster?ready=true")
    assert [item["cluster"] for item in ready["items"]] == ["west"]
    labelled = await get(client, "/cluster?label=region%3Dus")
    assert [item["cluster"] for item in labelled["items"]] == ["east"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=5001", "limit=x", "limit=99999999999", "continue=%25", "phase=Sleeping", "colour=red"],
)
async def test_what_makes_no_sense_is_400(client: Client, query: str) -> None:
    assert (await get(client, f"/workload?{query}", 400))["reason"] == "BadRequest"


@pytest.mark.parametrize("query", ["ready=yes", "label=region", "label=%3Dus"])
async def test_what_makes_no_sense_of_clusters_is_400(client: Client, query: str) -> None:
    await get(client, f"/cluster?{query}", 400)


class AbsentStore(MemoryKeyValue):
    """A store that cannot be reached."""

    async def get(self, table: str, key: str) -> bytes | None:
        raise KeyValueError(f"{table}/{key}: away")

    async def items(self, table: str) -> AsyncIterator[tuple[str, bytes]]:
        raise KeyValueError(f"{table}: away")
        yield ("", b"")


@pytest.mark.parametrize("path", ["/workload", "/cluster/west"])
async def test_a_store_that_is_away_is_503(path: str) -> None:
    client = await client_of(AbsentStore())
    try:
        assert (await get(client, path, 503))["reason"] == "Unavailable"
    finally:
        await client.close()


async def test_the_document_describes_every_route(client: Client) -> None:
    document = await get(client, "/openapi.json")
    assert document == openapi()
    served = {route.resource.canonical for route in client.app.router.routes() if route.resource is not None}
    assert set(document["paths"]) == served - {"/openapi.json"}
    references = {part.partition('"')[0] for part in str(document).replace("'", '"').split("#/components/schemas/")[1:]}
    assert references <= document["components"]["schemas"].keys()


async def test_what_is_not_heard_is_healthy_nowhere_even_if_nobody_says_so() -> None:
    """The status service is away, and so is a watcher: the read model is as it was."""
    store = MemoryKeyValue()
    clusters = [view("west", ready=True, region="eu", age_ms=20_001), view("east", ready=True, region="us")]
    await store.write(CLUSTERS_TABLE, {item.cluster: item.to_json() for item in clusters})
    keys = [WorkloadKey("shop", name) for name in ("both", "east", "pending")]
    statuses = [
        status_of(keys[0], Phase.RUNNING, clusters=["west", "east"]),
        status_of(keys[1], Phase.RUNNING, clusters=["east"]),
        status_of(keys[2], Phase.PENDING, clusters=["west"]),
    ]
    await store.write(WORKLOADS_TABLE, {str(key): item.to_json() for key, item in zip(keys, statuses, strict=True)})
    client = await client_of(store)
    try:
        west = await get(client, "/cluster/west")
        assert (west["silent"], west["ready"], west["reason"]) == (True, False, "ClusterSilent")
        assert [(item["status"], item["reason"]) for item in west["conditions"]] == [("Unknown", "ClusterSilent")]
        assert (await get(client, "/cluster/east"))["ready"] is True
        assert [item["cluster"] for item in (await get(client, "/cluster?ready=true"))["items"]] == ["east"]

        both = await get(client, "/workload/shop/both")
        assert (both["phase"], both["reason"]) == ("Degraded", "ClusterSilent")
        assert "west" in both["message"]
        parts = {part["cluster"]: part for part in both["clusters"]}
        assert (parts["west"]["stale"], parts["west"]["counts"]["ready"]) == (True, 0)
        assert not parts["east"].get("stale")
        assert both["ready"] == parts["east"]["counts"]["ready"]
        assert names(await get(client, "/workload?phase=Running")) == ["shop/east"]
        pending = await get(client, "/workload/shop/pending")
        assert (pending["phase"], pending["clusters"][0]["stale"]) == ("Pending", True)
    finally:
        await client.close()
