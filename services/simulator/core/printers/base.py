"""What a printer is: columns, and the cells of an object at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.simulator.core.durations import age
from services.simulator.core.meta import Json
from services.simulator.core.selectors import format_selector

NONE = "<none>"
UNSET = "<unset>"


@dataclass(frozen=True, slots=True)
class Printer:
    """`columns` are names; one that starts with `+` is shown only by `-o wide`, one with `#` is a number."""

    columns: tuple[str, ...]
    cells: Callable[[Json, float], list[Any]]

    def definitions(self) -> list[Json]:
        definitions = []
        for column in self.columns:
            name = column.lstrip("+#")
            definitions.append(
                {
                    "name": name,
                    "type": "integer" if "#" in column[:2] else "string",
                    "format": "name" if name == "Name" else "",
                    "description": "",
                    "priority": int("+" in column[:2]),
                }
            )
        return definitions


def name_of(obj: Json) -> str:
    return str(obj["metadata"]["name"])


def age_of(obj: Json, now: float) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def spec_of(obj: Json) -> Json:
    found: Json = obj.get("spec") or {}
    return found


def status_of(obj: Json) -> Json:
    found: Json = obj.get("status") or {}
    return found


def container_cells(obj: Json) -> list[str]:
    """Names and images of a template's containers."""
    containers = spec_of(obj).get("template", {}).get("spec", {}).get("containers") or ()
    return [
        ",".join(container["name"] for container in containers),
        ",".join(container.get("image", "") for container in containers),
    ]


def selector_cell(obj: Json) -> str:
    return format_selector(spec_of(obj).get("selector"))


def map_cell(labels: dict[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE
