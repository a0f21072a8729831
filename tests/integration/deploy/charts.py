"""The charts, with every values file that they are tried with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[3]
CHARTS: Final = ROOT / "deploy" / "helm"
AGENT: Final = CHARTS / "agent"
CONTROL_PLANE: Final = CHARTS / "control-plane"
VALUES: Final = tuple(sorted(CHARTS.glob("*/ci/*-values.yaml")))

Json = dict[str, Any]


def chart_of(values: Path) -> Path:
    return values.parents[1]


def label_of(values: Path) -> str:
    return f"{chart_of(values).name}-{values.name.removesuffix('-values.yaml')}"


def documents(text: str) -> list[Json]:
    """The objects of a rendered chart."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def pods_of(objects: list[Json]) -> list[Json]:
    """The pod specifications in them."""
    return [item["spec"]["template"]["spec"] for item in objects if item["kind"] in {"Deployment", "Job"}]
