"""kubernetes-asyncio, the client library that the project configures itself with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from kubernetes_asyncio import client, config, watch

from tests.contract.kubernetes.client import Kube
from tests.contract.kubernetes.objects import config_map, workload

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def api(kubeconfig: Path) -> AsyncIterator[client.ApiClient]:
    configuration = client.Configuration()
    await config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    async with client.ApiClient(configuration) as found:
        yield found


async def test_typed_objects_go_out_and_come_back(api: client.ApiClient, kube: Kube) -> None:
    apps = client.AppsV1Api(api)
    made = await apps.create_namespaced_deployment(kube.namespace, workload("Deployment", replicas=1))  # type: ignore[arg-type]  # a plain dictionary is accepted
    assert made.metadata.uid
    patched = await apps.patch_namespaced_deployment_scale("web", kube.namespace, {"spec": {"replicas": 2}})
    assert patched.spec.replicas == 2
    listed = await client.CoreV1Api(api).list_node()
    assert len(listed.items) == 3
    assert listed.items[0].status.capacity["cpu"]


async def test_errors_are_api_exceptions(api: client.ApiClient, kube: Kube) -> None:
    with pytest.raises(client.ApiException) as caught:
        await client.CoreV1Api(api).read_namespaced_config_map("none", kube.namespace)
    assert caught.value.status == 404
    assert "not found" in str(caught.value.body)


async def test_its_watch_sees_changes(api: client.ApiClient, kube: Kube) -> None:
    core = client.CoreV1Api(api)
    listed = await core.list_namespaced_config_map(kube.namespace)
    await core.create_namespaced_config_map(kube.namespace, config_map("seen"))  # type: ignore[arg-type]  # likewise
    async with watch.Watch().stream(
        core.list_namespaced_config_map,
        kube.namespace,
        resource_version=listed.metadata.resource_version,
        timeout_seconds=5,
    ) as events:
        async for event in events:
            assert (event["type"], event["object"].metadata.name) == ("ADDED", "seen")
            break
