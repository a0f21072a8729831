"""Registration of the metrics server with the aggregation layer of a test cluster."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

from services.simulator import asked_metrics
from tests.testbed.api import Api

COMPONENT: Final = "metrics-server"
HOST: Final = "metrics-server.kube-system.svc"  # the name under which the aggregator verifies its certificate
RESOURCE_METRICS: Final = ("metrics.k8s.io", "v1beta1")
API_SERVICE: Final = "/apis/apiregistration.k8s.io/v1/apiservices"


async def register(api: Api, authority: bytes, port: int) -> None:
    """Create the Service and the APIService; `authority` is the PEM of who signed the server's certificate.

    The Service is an ExternalName: endpoints cannot be loopback addresses, and for this type the aggregator resolves
    the name itself.
    """
    service: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": COMPONENT},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }
    await api.call("POST", "/api/v1/namespaces/kube-system/services", service)
    await _serve(api, authority, port, RESOURCE_METRICS)


async def register_asked(api: Api, authority: bytes, port: int) -> None:
    """Custom and external metrics as well, of the same server."""
    for group_version in asked_metrics.versions():
        await _serve(api, authority, port, group_version)


async def _serve(api: Api, authority: bytes, port: int, group_version: tuple[str, str]) -> None:
    group, version = group_version
    api_service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": base64.b64encode(authority).decode(),
            "service": {"namespace": "kube-system", "name": COMPONENT, "port": port},
        },
    }
    await api.call("POST", API_SERVICE, api_service)


async def available(api: Api, group_versions: Sequence[tuple[str, str]] = (RESOURCE_METRICS,)) -> bool:
    """Whether the aggregator routes requests to the metrics server."""
    return all([await _is_available(api, f"{version}.{group}") for group, version in group_versions])


async def _is_available(api: Api, name: str) -> bool:
    found = await api.call("GET", f"{API_SERVICE}/{name}")
    conditions = found.get("status", {}).get("conditions", [])
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)
