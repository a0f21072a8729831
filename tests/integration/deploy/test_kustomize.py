"""Kustomize's bases are what the charts render, and what overlays make of them a real API server accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.deploy.charts import ROOT, documents, pods_of
from tests.integration.deploy.conftest import Deployed
from tests.testbed.kustomize import RELEASES, base, path_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.testbed]

OVERLAYS = tuple(sorted((ROOT / "deploy" / "kustomize").glob("*/overlays/*/kustomization.yaml")))


@pytest.mark.parametrize("chart", RELEASES)
async def test_a_base_is_what_its_chart_renders(chart: str, helm_binary: Path, tmp_path: Path) -> None:
    assert path_of(chart).read_text() == await base(chart, tmp_path), "run `make kustomize`"


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
    # A namespace of its own, which a dry run does not make for what is in it.
    elsewhere = text.replace(f"namespace: {namespace}\n", "namespace: default\n")
    # The definitions may be there from Helm.
    arguments = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
    accepted = await deployed.cluster.kubectl(*arguments, stdin=elsewhere)
    assert len(accepted.splitlines()) == len(objects)
