"""Kustomize's bases are what the charts render, and what overlays make of them a real API server accepts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shared.security.permissions import KUBECONFIGS
from tests.integration.deploy.charts import ROOT, documents, pods_of
from tests.integration.deploy.conftest import Deployed
from tests.testbed.kustomize import rendered

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.testbed]

OVERLAYS = tuple(sorted((ROOT / "deploy" / "kustomize").glob("*/overlays/*/kustomization.yaml")))


async def test_bases_and_components_are_what_their_charts_render(helm_binary: Path, tmp_path: Path) -> None:
    for path, text in (await rendered(tmp_path)).items():
        assert path.read_text() == text, f"{path}: run `make kustomize`"


async def accepted(deployed: Deployed, text: str, namespace: str) -> list[str]:
    """What an API server says to each object; in a namespace that is there, as a dry run makes none."""
    elsewhere = text.replace(f"namespace: {namespace}\n", "namespace: default\n")
    # The definitions may be there from Helm.
    arguments = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
    return (await deployed.cluster.kubectl(*arguments, stdin=elsewhere)).splitlines()


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.parents[2].name)
async def test_an_overlay_changes_what_it_should_and_is_accepted(overlay: Path, deployed: Deployed) -> None:
    text = await deployed.cluster.kubectl("kustomize", str(overlay.parent))
    objects = documents(text)
    assert {item["metadata"].get("labels", {}).get("helm.sh/chart") for item in objects} == {None}
    for pod in pods_of(objects):
        (container,) = pod["containers"]
        assert container["image"].startswith("registry.example.com/flotilla/")
        assert "kafka:9092" not in {variable.get("value") for variable in container["env"]}
    namespace = next(item for item in objects if item["kind"] == "Namespace")["metadata"]["name"]
    assert {item["metadata"].get("namespace", namespace) for item in objects} == {namespace}
    assert len(await accepted(deployed, text, namespace)) == len(objects)


async def test_the_component_adds_agents_of_clusters_that_are_made(deployed: Deployed, tmp_path: Path) -> None:
    folder = tmp_path / "control-plane"
    shutil.copytree(ROOT / "deploy" / "kustomize" / "control-plane", folder)
    overlay = folder / "overlays" / "example"
    before = documents(await deployed.cluster.kubectl("kustomize", str(overlay)))
    with (overlay / "kustomization.yaml").open("a") as file:
        file.write("components: [../../provision]\n")
    text = await deployed.cluster.kubectl("kustomize", str(overlay))
    objects = documents(text)
    found = {(item["kind"], item["metadata"]["name"]): item for item in objects}
    assert len(found) > len(before)
    for agent in ("watcher", "executor"):
        (container,) = found["Deployment", f"flotilla-{agent}"]["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "registry.example.com/flotilla/agent:0.1.0"
        assert "kafka:9092" not in {variable.get("value") for variable in container["env"]}
    (hub,) = found["Deployment", "flotilla-hub"]["spec"]["template"]["spec"]["containers"]
    names = [variable["name"] for variable in hub["env"]]
    assert "FLOTILLA_HUB_KUBECONFIG_SECRET" in names
    assert len(names) == len(set(names))
    assert KUBECONFIGS in str(found["Role", "flotilla-hub"]["rules"])
    assert len(await accepted(deployed, text, "flotilla-system")) == len(objects)
