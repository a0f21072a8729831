"""Kustomize's bases, rendered from the charts with the fewest values: `make kustomize`.

So there is one source. What is Helm's alone (its hook, its labels) is taken out. A component is what another values
file adds to a base: objects of its own, and patches. A test fails where one of them differs from its chart.
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
_COMPONENTS: Final = {"control-plane": ("provision",)}
_FOLDER: Final = ROOT / "deploy" / "kustomize"
_WITHOUT: Final = {"control-plane": ("--set", "crds.install=false")}
_NOTE: Final = (
    "# Made by `make kustomize` from deploy/helm/{chart}; do not edit: overlays/example shows how to change it.\n"
)

Json = dict[str, Any]


async def rendered(home: Path) -> dict[Path, str]:
    """Every generated file with its text."""
    found: dict[Path, str] = {}
    for chart in RELEASES:
        objects = await _render(chart, "plain", home)
        found[_FOLDER / chart / "base" / "manifests.yaml"] = _text(chart, objects)
        for component in _COMPONENTS.get(chart, ()):
            present = {_identity(item): item for item in objects}
            more = [item for item in await _render(chart, component, home) if present.get(_identity(item)) != item]
            folder = _FOLDER / chart / component
            found[folder / "manifests.yaml"] = _text(chart, [i for i in more if _identity(i) not in present])
            # Strategic merges: what an object has already is in them once more, and changes nothing.
            found[folder / "patches.yaml"] = _text(chart, [i for i in more if _identity(i) in present])
    return found


async def _render(chart: str, values: str, home: Path) -> list[Json]:
    folder = ROOT / "deploy" / "helm" / chart
    release, namespace = RELEASES[chart]
    # The definitions stand beside the base, where `make gen` puts them.
    arguments = ("-n", namespace, "-f", str(folder / "ci" / f"{values}-values.yaml"), *_WITHOUT.get(chart, ()))
    text = await run_helm("template", release, str(folder), *arguments, home=home)
    return [_without_helm(item) for item in yaml.safe_load_all(text) if item is not None]


def _text(chart: str, objects: list[Json]) -> str:
    return _NOTE.format(chart=chart) + yaml.safe_dump_all(objects, sort_keys=False, width=120)


def _identity(item: Json) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


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
        for path, text in (await rendered(Path(home))).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


if __name__ == "__main__":
    asyncio.run(write())
    sys.exit(0)
