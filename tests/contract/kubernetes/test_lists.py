"""Lists: selectors, pages of one version, tables, versions."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.kubernetes.client import TABLE, Json, Kube
from tests.contract.kubernetes.objects import config_map, pod

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _fill(kube: Kube, number: int) -> None:
    bodies = [config_map(f"item-{index:02d}", labels={"parity": str(index % 2)}) for index in range(number)]
    for answer in await asyncio.gather(*(kube.post(kube.path("configmaps"), body) for body in bodies)):
        answer.ok()


def _names(listed: Json) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


async def test_a_list_has_a_version_and_ordered_items_without_kind(kube: Kube) -> None:
    await _fill(kube, 3)
    listed = (await kube.get(kube.path("configmaps"), labelSelector="parity")).ok()
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert _names(listed) == ["item-00", "item-01", "item-02"]
    assert int(listed["metadata"]["resourceVersion"]) > 0
    assert all("kind" not in item and "apiVersion" not in item for item in listed["items"])


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("parity=1", ["item-01", "item-03"]),
        ("parity!=1,parity", ["item-00", "item-02"]),
        ("parity in (0, 1)", ["item-00", "item-01", "item-02", "item-03"]),
        ("parity notin (0),parity", ["item-01", "item-03"]),
        ("!parity,missing", []),
    ],
)
async def test_label_selectors(kube: Kube, selector: str, expected: list[str]) -> None:
    await _fill(kube, 4)
    assert _names((await kube.get(kube.path("configmaps"), labelSelector=selector)).ok()) == expected


async def test_field_selectors(kube: Kube) -> None:
    await kube.post(kube.path("pods"), pod("held", schedulerName="nobody"))
    await kube.post(kube.path("pods"), pod("other", schedulerName="somebody"))
    found = (await kube.get(kube.path("pods"), fieldSelector="spec.schedulerName=nobody,status.phase=Pending")).ok()
    assert _names(found) == ["held"]
    assert _names((await kube.get(kube.path("pods"), fieldSelector="metadata.name!=held")).ok()) == ["other"]
    assert _names((await kube.get(kube.path("pods"), fieldSelector="spec.nodeName=")).ok()) == ["held", "other"]
    status = (await kube.get(kube.path("pods"), fieldSelector="spec.colour=x")).refused(400, "BadRequest")
    assert "field label not supported: spec.colour" in status["message"]


async def test_pages_belong_to_one_version(kube: Kube) -> None:
    await _fill(kube, 5)
    query = {"labelSelector": "parity", "limit": 2}
    first = (await kube.get(kube.path("configmaps"), **query)).ok()
    assert _names(first) == ["item-00", "item-01"]
    (await kube.delete(kube.path("configmaps", "item-03"))).ok()
    (await kube.post(kube.path("configmaps"), config_map("item-035", labels={"parity": "1"}))).ok()
    second = (await kube.get(kube.path("configmaps"), **query, **{"continue": first["metadata"]["continue"]})).ok()
    third = (await kube.get(kube.path("configmaps"), **query, **{"continue": second["metadata"]["continue"]})).ok()
    assert _names(second) + _names(third) == ["item-02", "item-03", "item-04"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert not third["metadata"].get("continue")


async def test_remaining_items_are_counted(kube: Kube) -> None:
    await _fill(kube, 5)
    page = (await kube.get(kube.path("configmaps"), limit=2)).ok()
    total = len((await kube.get(kube.path("configmaps"))).ok()["items"])
    assert page["metadata"]["remainingItemCount"] == total - 2


async def test_an_exact_version_is_the_past(kube: Kube) -> None:
    await _fill(kube, 2)
    before = (await kube.get(kube.path("configmaps"), labelSelector="parity")).ok()
    (await kube.delete(kube.path("configmaps", "item-00"))).ok()
    version = before["metadata"]["resourceVersion"]
    query = {"labelSelector": "parity", "limit": 10, "resourceVersion": version, "resourceVersionMatch": "Exact"}
    past = (await kube.get(kube.path("configmaps"), **query)).ok()
    assert _names(past) == ["item-00", "item-01"]
    assert past["metadata"]["resourceVersion"] == version


async def test_a_version_of_the_future_is_a_timeout(kube: Kube) -> None:
    answer = await kube.get(kube.path("configmaps"), resourceVersion=str(2**60))
    status = answer.refused(504, "Timeout")
    assert "Too large resource version" in status["message"]
    assert any(cause.get("reason") == "ResourceVersionTooLarge" for cause in status["details"]["causes"])


async def test_tables_are_for_people(kube: Kube) -> None:
    (await kube.post(kube.path("pods"), pod("held", schedulerName="nobody"))).ok()
    table = (await kube.get(kube.path("pods"), accept=TABLE)).ok()
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names == [
        "Name",
        "Ready",
        "Status",
        "Restarts",
        "Age",
        "IP",
        "Node",
        "Nominated Node",
        "Readiness Gates",
    ]
    cells = table["rows"][0]["cells"]
    assert cells[:4] == ["held", "0/1", "Pending", "0"]
    assert cells[5:] == ["<none>"] * 4
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


async def test_metadata_alone(kube: Kube) -> None:
    await _fill(kube, 1)
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    found = (await kube.get(kube.path("configmaps", "item-00"), accept=accept)).ok()
    assert found["kind"] == "PartialObjectMetadata"
    assert "data" not in found
    listed = (await kube.get(kube.path("configmaps"), accept=accept.replace("Metadata;", "MetadataList;"))).ok()
    assert listed["kind"] == "PartialObjectMetadataList"
    assert "item-00" in _names(listed)
