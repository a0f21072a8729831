"""The fleet's priority classes, from what the settings say of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from services.scheduler.decision.asked.priorities import PriorityClass
from shared.events.registry import field_errors
from shared.model.base import StrictValue
from shared.model.names import DnsSubdomain


class _Class(StrictValue):
    value: Annotated[int, Field(ge=-2_147_483_648, le=1_000_000_000)]
    default: bool = False
    preemption_policy: Literal["PreemptLowerPriority", "Never"] = "PreemptLowerPriority"


_CLASSES = TypeAdapter(dict[DnsSubdomain, _Class])


def priority_classes(given: Mapping[str, Mapping[str, Any]]) -> dict[str, PriorityClass]:
    """Raises ValueError, which names the field."""
    try:
        classes = _CLASSES.validate_python(dict(given))
    except ValidationError as error:
        first = field_errors(error)[0]
        raise ValueError(f"scheduler_priority_classes.{first.field}: {first.message}") from error
    defaults = sorted(name for name, item in classes.items() if item.default)
    if len(defaults) > 1:
        raise ValueError(f"scheduler_priority_classes: only one may be the default, not {', '.join(defaults)}")
    return {name: PriorityClass(item.value, item.default, item.preemption_policy) for name, item in classes.items()}
