"""Parts of documents that a person wrote, read where they are what Kubernetes allows; `Errors` says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shared.events.registry import field_errors
from shared.events.v1.workloads import MAX_REPLICAS, FieldError, Manifest
from shared.model.names import label_key_error, label_value_error
from shared.model.selectors import LabelSelector


@dataclass(slots=True)
class Errors:
    path: str
    found: list[FieldError]

    def at(self, *parts: str | int) -> Errors:
        return Errors(".".join([self.path, *map(str, parts)]), self.found)

    def at_path(self, path: str) -> Errors:
        """`path` begins with a dot, unless it is empty."""
        return Errors(self.path + path, self.found)

    def add(self, reason: str, message: str) -> None:
        self.found.append(FieldError(field=self.path, reason=reason, message=message))

    def add_all(self, error: ValidationError) -> None:
        items = field_errors(error)
        for item in items:
            # A list whose only item is wrong is reported as too short as well; the item's own error says it all.
            if any(other.field.startswith(f"{item.field}.") for other in items):
                continue
            field = f"{self.path}.{item.field}" if item.field else self.path
            self.found.append(item.model_copy(update={"field": field}))


def count_in(spec: Mapping[str, Any], name: str, errors: Errors) -> int | None:
    value = spec.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_REPLICAS:
        errors.at(name).add("Invalid", f"must be a whole number from 0 to {MAX_REPLICAS}")
        return None
    return value


def check_labels(metadata: Mapping[str, Any], errors: Errors) -> dict[str, str]:
    """The labels, none where they are no labels."""
    labels = metadata.get("labels")
    if labels is None:
        return {}
    where = errors.at("labels")
    if not isinstance(labels, dict):
        where.add("Invalid", "must be an object")
        return {}
    before = len(errors.found)
    for key, value in labels.items():
        wrong_value = label_value_error(value) if isinstance(value, str) else "must be a string"
        for problem in (label_key_error(key), wrong_value):
            if problem:
                where.add("Invalid", f"{key[:80]!r}: {problem}")
    return labels if len(errors.found) == before else {}


def check_selector(manifest: Manifest, labels: object, errors: Errors) -> None:
    spec = manifest.get("spec")
    selector = spec.get("selector") if isinstance(spec, dict) else None
    if selector is None:
        errors.add("Required", "a selector that matches the labels of the template must be given")
        return
    try:
        parsed = LabelSelector.model_validate(selector)
    except ValidationError as error:
        errors.add_all(error)
        return
    if not parsed.match_labels and not parsed.match_expressions:
        errors.add("Invalid", "an empty selector selects every pod of the namespace")
    elif not parsed.matches(labels if isinstance(labels, dict) else {}):
        errors.add("Contradiction", "does not match the labels of the template")
