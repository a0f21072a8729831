"""A hub cluster (etcd and kube-apiserver alone) has what the hub service needs: custom resources, webhooks, leases."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.testbed import KubectlError, RealCluster, hub_cluster
from tests.testbed.fixtures import MakeCluster
from tests.testbed.pki import Authority

pytestmark = pytest.mark.testbed

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ships.example.org}
spec:
  group: example.org
  scope: Cluster
  names: {plural: ships, singular: ship, kind: Ship}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Masts, type: integer, jsonPath: .spec.masts}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {masts: {type: integer}}
            x-kubernetes-validations: [{rule: self.masts < 6, message: at most five masts}]
"""


def _ship(name: str, masts: int) -> str:
    return f"{{apiVersion: example.org/v1, kind: Ship, metadata: {{name: {name}}}, spec: {{masts: {masts}}}}}"


@pytest_asyncio.fixture
async def hub(start_cluster: MakeCluster) -> RealCluster:
    cluster = await start_cluster(hub_cluster())
    await cluster.kubectl("create", "-f", "-", stdin=CRD)
    await cluster.kubectl("wait", "--for=condition=Established", "crd/ships.example.org", "--timeout=20s")
    return cluster


@pytest_asyncio.fixture
async def webhook(hub: RealCluster, tmp_path: Path) -> AsyncIterator[list[str]]:
    """A validating webhook that refuses the name `mary-celeste`; yields the names that it was asked about."""
    asked: list[str] = []

    async def review(request: web.Request) -> web.Response:
        asking = (await request.json())["request"]
        asked.append(asking["name"])
        allowed = asking["name"] != "mary-celeste"
        answer: dict[str, Any] = {"uid": asking["uid"], "allowed": allowed, "status": {"message": "nobody is aboard"}}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})

    authority = Authority(tmp_path / "webhook", "webhook")
    served = authority.server("webhook", ["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(served.certificate, served.key)
    application = web.Application()
    application.router.add_post("/admit", review)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    await hub.api.call(
        "POST",
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        {
            "metadata": {"name": "ships"},
            "webhooks": [
                {
                    "name": "ships.example.org",
                    "clientConfig": {
                        "url": f"https://127.0.0.1:{port}/admit",
                        "caBundle": base64.b64encode(authority.files.certificate.read_bytes()).decode(),
                    },
                    "rules": [
                        {
                            "apiGroups": ["example.org"],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE"],
                            "resources": ["ships"],
                        }
                    ],
                    "failurePolicy": "Fail",
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                }
            ],
        },
    )
    yield asked
    await runner.cleanup()


async def test_custom_resources_have_columns_and_rules(hub: RealCluster) -> None:
    await hub.kubectl("create", "-f", "-", stdin=_ship("preussen", 5))

    assert (await hub.kubectl("get", "ship", "preussen")).split()[:2] == ["NAME", "MASTS"]
    with pytest.raises(KubectlError, match="at most five masts"):
        await hub.kubectl("create", "-f", "-", stdin=_ship("hubris", 6))


async def test_webhooks_are_asked_and_obeyed(hub: RealCluster, webhook: list[str]) -> None:
    # The API server learns of a new webhook by a watch: until it has, nothing is asked.
    for attempt in range(100):
        await hub.kubectl("create", "-f", "-", stdin=_ship(f"probe-{attempt}", 1))
        if webhook:
            break

    with pytest.raises(KubectlError, match="nobody is aboard"):
        await hub.kubectl("create", "-f", "-", stdin=_ship("mary-celeste", 2))
    assert webhook[-1] == "mary-celeste"


async def test_leases_can_be_held(hub: RealCluster) -> None:
    lease = {"metadata": {"name": "6d45bc58.k8s.io"}, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}}
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"

    created = await hub.api.call("POST", path, lease)

    assert created["spec"]["holderIdentity"] == "me"
