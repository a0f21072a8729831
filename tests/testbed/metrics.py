"""Registration of the metrics server with the aggregation layer of a test cluster."""

from __future__ import annotations

import base64
from typing import Any, Final

from tests.testbed.api import Api

COMPONENT: Final = "metrics-server"
HOST: Final = "metrics-server.kube-system.svc"  # the name under which the aggregator verifies its certificate
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
    api_service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": base64.b64encode(authority).decode(),
            "service": {"namespace": "kube-system", "name": COMPONENT, "port": port},
        },
    }
    await api.call("POST", "/api/v1/namespaces/kube-system/services", service)
    await api.call("POST", API_SERVICE, api_service)


async def available(api: Api) -> bool:
    """Whether the aggregator routes requests to the metrics server."""
    found = await api.call("GET", f"{API_SERVICE}/v1beta1.metrics.k8s.io")
    conditions = found.get("status", {}).get("conditions", [])
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)
