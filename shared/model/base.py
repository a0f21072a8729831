"""The one base of every value that travels: frozen, camelCase on the wire, as Kubernetes writes it.

`Value` ignores fields that it does not know, so that a reader of `v1` accepts what a newer writer of
`v1` adds. `StrictValue` refuses them: in what a person writes an unknown field is a typing error, and a
typing error that is ignored is a workload that runs in the wrong way.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel


class Value(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore", ser_json_inf_nan="null"
    )

    def to_json(self) -> bytes:
        """Canonical bytes: camelCase, absent optional fields left out."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True)


class StrictValue(Value):
    model_config = ConfigDict(extra="forbid")


class KubernetesValue(Value):
    """As Kubernetes reads JSON: null is the same as absent."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data
