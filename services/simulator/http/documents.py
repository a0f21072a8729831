"""Everything that is not a resource: discovery, versions, health, OpenAPI, reviews of one's own access."""

from __future__ import annotations

import platform

from aiohttp import web

from services.simulator.core import discovery
from services.simulator.core.errors import no_such_path
from services.simulator.core.meta import Json
from services.simulator.core.openapi import openapi_v2, openapi_v2_protobuf, openapi_v3, openapi_v3_index
from services.simulator.core.resources import Resource
from services.simulator.core.state import ClusterState
from services.simulator.http.negotiation import Representation, negotiate
from services.simulator.http.responses import json_response

_HEALTH = frozenset({"healthz", "livez", "readyz"})
_USER = "flotilla-simulator"
# As clients ask for it. The answer's type has a dot for the @, which Go's parser of media types refuses.
_OPENAPI_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


def serve(  # noqa: PLR0911  # a routing table
    state: ClusterState, path: str, request: web.BaseRequest
) -> web.Response:
    parts = [part for part in path.split("/") if part]
    match parts:
        case []:
            return json_response(
                {"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]}
            )
        case ["version"]:
            return json_response(version_info(state.version))
        case ["openapi", "v2"] if _OPENAPI_PROTOBUF in request.headers.get("Accept", ""):
            content_type = _OPENAPI_PROTOBUF.replace("@", ".")
            return web.Response(body=openapi_v2_protobuf(state.version), content_type=content_type)
        case ["openapi", "v2"]:
            return json_response(openapi_v2(state.registry, state.version))
        case ["openapi", "v3"]:
            return json_response(openapi_v3_index(state.registry))
        case ["openapi", "v3", *rest]:
            return json_response(openapi_v3(state.registry, "/".join(rest), state.version))
        case [name, *_] if name in _HEALTH:
            return web.Response(text="ok")
        case ["api" | "apis", *_]:
            return _discovery(state, parts, request)
    raise no_such_path()


def _discovery(  # noqa: PLR0911  # a routing table
    state: ClusterState, parts: list[str], request: web.BaseRequest
) -> web.Response:
    shown = negotiate(request.headers.get("Accept", ""))
    match parts:
        case ["api" | "apis"] if shown.kind == "APIGroupDiscoveryList":
            return _aggregated(state, shown, core=parts[0] == "api")
        case ["api"]:
            return json_response(discovery.core_versions(request.host))
        case ["api", version]:
            return json_response(discovery.resource_list(state.registry, "", version))
        case ["apis"]:
            return json_response(discovery.group_list(state.registry))
        case ["apis", group, *_] if group not in state.registry.groups():
            return unknown_group()
        case ["apis", group]:
            return json_response(discovery.group(state.registry, group))
        case ["apis", group, version]:
            return json_response(discovery.resource_list(state.registry, group, version))
    raise no_such_path()


def unknown_group() -> web.Response:
    """A group that nothing serves is not even answered with a Status."""
    return web.Response(text="404 page not found\n", status=404)


def _aggregated(state: ClusterState, shown: Representation, *, core: bool) -> web.Response:
    version = shown.version or "v2"
    response = json_response(discovery.aggregated(state.registry, version, core=core))
    response.headers["Content-Type"] = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    return response


def version_info(version: str) -> Json:
    major, minor = version.removeprefix("v").split(".")[:2]
    return {
        "major": major,
        "minor": minor,
        "gitVersion": version,
        "gitCommit": "simulated",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": f"linux/{'arm64' if platform.machine() == 'aarch64' else 'amd64'}",
    }


def review(resource: Resource, body: Json) -> Json:
    """Everybody may do everything, and is told so."""
    base: Json = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {"creationTimestamp": None}}
    if resource.kind == "SelfSubjectReview":
        return base | {
            "status": {"userInfo": {"username": _USER, "groups": ["system:masters", "system:authenticated"]}}
        }
    return base | {"spec": body.get("spec") or {}, "status": {"allowed": True, "reason": "the simulator allows all"}}
