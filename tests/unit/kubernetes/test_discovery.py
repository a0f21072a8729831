from __future__ import annotations

import json

import pytest

from shared.adapters.kubernetes.discovery import REFRESH_S, Discovery
from shared.model.identities import Resource
from shared.ports.cluster_api import ApiError

APPS = {
    "kind": "APIResourceList",
    "groupVersion": "apps/v1",
    "resources": [
        {"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": ["get", "list", "watch"]},
        {"name": "deployments/scale", "kind": "Scale", "namespaced": True, "verbs": ["get"]},
        {"name": "deployments/status", "kind": "Deployment", "namespaced": True, "verbs": ["get"]},
    ],
}


class Server:
    def __init__(self) -> None:
        self.documents: dict[str, object] = {"/apis/apps/v1": APPS}
        self.asked: list[str] = []
        self.now = 100.0

    async def fetch(self, path: str) -> bytes:
        self.asked.append(path)
        if path not in self.documents:
            raise ApiError(404, "NotFound", path)
        return json.dumps(self.documents[path]).encode()

    def discovery(self) -> Discovery:
        return Discovery(self.fetch, lambda: self.now)


async def test_a_kind_and_its_subresources_from_one_document() -> None:
    server = Server()
    discovery = server.discovery()

    info = await discovery.by_kind("apps/v1", "Deployment")
    again = await discovery.by_resource(Resource("apps", "v1", "deployments"))

    assert info == again
    assert info.resource == Resource("apps", "v1", "deployments")
    assert info.namespaced
    assert info.verbs == {"get", "list", "watch"}
    assert info.subresources == {"scale", "status"}
    assert server.asked == ["/apis/apps/v1"]


async def test_what_is_missing_is_asked_for_again_but_not_at_once() -> None:
    server = Server()
    discovery = server.discovery()
    for _ in range(5):
        with pytest.raises(ApiError) as caught:
            await discovery.by_kind("example.com/v1", "Widget")
        assert (caught.value.code, caught.value.reason) == (404, "KindNotServed")
    assert len(server.asked) == 1

    server.documents["/apis/example.com/v1"] = {"resources": [{"name": "widgets", "kind": "Widget"}]}
    server.now += REFRESH_S
    assert (await discovery.by_kind("example.com/v1", "Widget")).resource.plural == "widgets"


async def test_a_resource_that_is_not_served_is_none() -> None:
    assert await Server().discovery().by_resource(Resource("", "v1", "ghosts")) is None


async def test_other_errors_are_the_callers() -> None:
    async def fetch(_: str) -> bytes:
        raise ApiError(503, "ServiceUnavailable", "aggregated API is down")

    with pytest.raises(ApiError, match="503"):
        await Discovery(fetch).by_kind("metrics.k8s.io/v1beta1", "NodeMetrics")
