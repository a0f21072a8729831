"""The simulator's own API under /simulator: clusters, nodes, faults. JSON in, JSON out; errors as Status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from services.simulator.asked_metrics import MetricValues
from services.simulator.core.errors import ApiError, bad_request, method_not_allowed, no_such_path
from services.simulator.core.meta import Json
from services.simulator.core.state import NODES, PODS
from services.simulator.faults import FaultSpec
from services.simulator.http import bodies
from services.simulator.http.responses import json_response
from services.simulator.spec import ClusterSpec, NodeGroup

if TYPE_CHECKING:
    from services.simulator.simulator import Simulator


Model = TypeVar("Model", bound=BaseModel)


class Admin:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        parts = [part for part in path.split("/") if part]
        match (request.method, parts):
            case ("GET", ["clusters"]):
                return json_response({"clusters": [self._describe(name) for name in self._simulator.names]})
            case ("POST", ["clusters"]):
                spec = await self._model(request, ClusterSpec)
                try:
                    url = await self._simulator.add_cluster(spec)
                except (ValueError, OSError) as error:
                    raise ApiError(409, "Conflict", str(error)) from error
                return json_response({"name": spec.name, "server": url}, 201)
            case (_, ["clusters", name, *rest]) if name in self._simulator.names:
                return await self._cluster(request, name, rest)
        raise no_such_path()

    def _describe(self, name: str) -> Json:
        state = self._simulator.cluster(name).state
        return {
            "name": name,
            "server": self._simulator.server_url(name),
            "spec": self._simulator.cluster(name).spec.model_dump(mode="json", by_alias=True),
            "nodes": len(state.items(NODES)),
            "failedNodes": sorted(state.silent_nodes),
            "pods": len(state.items(PODS)),
            "resourceVersion": str(state.store.version),
            "faults": self._simulator.faults(name).model_dump(mode="json", by_alias=True),
        }

    async def _cluster(  # noqa: PLR0911  # a routing table
        self, request: web.BaseRequest, name: str, rest: list[str]
    ) -> web.Response:
        match (request.method, rest):
            case ("GET", []):
                return json_response(self._describe(name))
            case ("DELETE", []):
                await self._simulator.remove_cluster(name)
                return json_response({"name": name})
            case ("POST", ["nodes"]):
                group = await self._model(request, NodeGroup)
                return json_response({"nodes": self._simulator.cluster(name).add_nodes(group, group.count)}, 201)
            case (method, ["nodes", node, *action]):
                return self._node(method, name, node, action)
            case ("PUT", ["faults"]):
                self._simulator.inject(name, await self._model(request, FaultSpec))
                return json_response(self._describe(name)["faults"])
            case ("DELETE", ["faults"]):
                self._simulator.inject(name, None)
                return json_response(self._describe(name)["faults"])
            case ("PUT", ["metrics"]):
                told = await self._model(request, MetricValues)
                self._simulator.measure(name, told.values)
                return json_response({"values": len(told.values)})
            case ("POST", ["drop-watches"]):
                return json_response({"dropped": self._simulator.drop_watches(name)})
            case ("POST", ["compact"]):
                self._simulator.compact(name)
                return json_response({})
        raise no_such_path()

    def _node(self, method: str, name: str, node: str, action: list[str]) -> web.Response:
        cluster = self._simulator.cluster(name)
        if cluster.state.find(NODES, "", node) is None:
            raise ApiError(404, "NotFound", f'nodes "{node}" not found')
        match (method, action):
            case ("DELETE", []):
                cluster.remove_node(node)
            case ("POST", ["fail"]):
                cluster.fail_node(node)
            case ("POST", ["recover"]):
                cluster.recover_node(node)
            case _:
                raise method_not_allowed()
        return json_response({"node": node})

    async def _model(self, request: web.BaseRequest, model: type[Model]) -> Model:
        body: Any = await bodies.read_body(request)
        try:
            return model.model_validate(body)
        except ValidationError as error:
            raise bad_request(str(error)) from error
