"""Kustomize's bases, rendered from the charts with the fewest values: `make kustomize`.

So there is one source. What is Helm's alone (its hook, its labels) is taken out. A test fails where a base differs from
its chart.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from tests.testbed.helm_cli import run_helm

ROOT: Final = Path(__file__).resolve().parents[2]
# Release, with which the objects' names begin, and namespace by chart.
RELEASES: Final = {"agent": ("flotilla-agent", "flotilla-agents"), "control-plane": ("flotilla", "flotilla-system")}
_WITHOUT: Final = {"control-plane": ("--set", "crds.install=false")}
_NOTE: Final = (
    "# Made by `make kustomize` from deploy/helm/{chart}; do not edit: overlays/example shows how to change it.\n"
)

Json = dict[str, Any]


async def base(chart: str, home: Path) -> str:
    """The objects of a chart, as a base has them."""
    folder = ROOT / "deploy" / "helm" / chart
    release, namespace = RELEASES[chart]
    # The definitions stand beside the base, where `make gen` puts them.
    arguments = ("-n", namespace, "-f", str(folder / "ci" / "plain-values.yaml"), *_WITHOUT.get(chart, ()))
    text = await run_helm("template", release, str(folder), *arguments, home=home)
    objects = [_without_helm(item) for item in yaml.safe_load_all(text) if item is not None]
    return _NOTE.format(chart=chart) + yaml.safe_dump_all(objects, sort_keys=False, width=120)


def path_of(chart: str) -> Path:
    return ROOT / "deploy" / "kustomize" / chart / "base" / "manifests.yaml"


def _without_helm(item: Json) -> Json:
    metadata = {**item["metadata"], "labels": _labels(item["metadata"]["labels"])}
    kept = {key: value for key, value in metadata.get("annotations", {}).items() if not key.startswith("helm.sh/")}
    metadata.pop("annotations", None)
    if kept:
        metadata["annotations"] = kept
    template = item.get("spec", {}).get("template")
    if template is not None:
        template["metadata"]["labels"] = _labels(template["metadata"]["labels"])
    return {**item, "metadata": metadata}


def _labels(labels: Json) -> Json:
    kept = {key: value for key, value in labels.items() if not key.startswith("helm.sh/")}
    return {**kept, "app.kubernetes.io/managed-by": "kustomize"}


async def write() -> None:
    with tempfile.TemporaryDirectory(prefix="flotilla-helm-") as home:
        for chart in RELEASES:
            path_of(chart).parent.mkdir(parents=True, exist_ok=True)
            path_of(chart).write_text(await base(chart, Path(home)))


if __name__ == "__main__":
    asyncio.run(write())
    sys.exit(0)
