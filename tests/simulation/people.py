"""What people and machines do in the clusters, past the fleet: nodes come and go, somebody deletes a Deployment."""

from __future__ import annotations

from typing import Any

import orjson

from tests.simulation.api_server import ApiServer, Request, headers
from tests.simulation.plan import Action
from tests.simulation.world import World

_JSON = "application/json"


class People:
    def __init__(self, world: World) -> None:
        self._world = world
        self._failed: list[tuple[ApiServer, str]] = []

    def do(self, action: Action) -> None:
        getattr(self, action.what)(self._world.servers[action.cluster], action.number)

    def heal(self) -> None:
        """Failed nodes come back."""
        for server, name in self._failed:
            server.cluster.recover_node(name)

    def add_nodes(self, server: ApiServer, number: int) -> None:
        server.change(lambda cluster: cluster.add_nodes(cluster.spec.node_groups[0], max(number, 1)))

    def remove_node(self, server: ApiServer, number: int) -> None:
        name = server.node(number)
        server.change(lambda cluster: cluster.remove_node(name))

    def fail_node(self, server: ApiServer, number: int) -> None:
        name = server.node(number)
        self._failed.append((server, name))
        server.change(lambda cluster: cluster.fail_node(name))

    def delete_deployment(self, server: ApiServer, number: int) -> None:
        """Somebody deletes one of our Deployments by hand."""
        self._delete(server, "deployments.apps", "/apis/apps/v1", "deployments", number)

    def delete_pod(self, server: ApiServer, number: int) -> None:
        self._delete(server, "pods", "/api/v1", "pods", number)

    def create_foreign(self, server: ApiServer, number: int) -> None:
        """Something that is none of the fleet's business."""
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"foreign-{number}"}}
        body["spec"] = {"ports": [{"port": 80}], "selector": {"app": "foreign"}}
        path = "/api/v1/namespaces/default/services"
        server.handle(Request("POST", path, headers=headers(_JSON), body=orjson.dumps(body)), "")

    def _delete(self, server: ApiServer, storage: str, prefix: str, plural: str, number: int) -> None:
        found = [item.object["metadata"] for item in server.cluster.state.items(storage)]
        if found:
            meta = found[number % len(found)]
            path = f"{prefix}/namespaces/{meta['namespace']}/{plural}/{meta['name']}"
            server.handle(Request("DELETE", path, headers=headers(_JSON)), "")
