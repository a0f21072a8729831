"""Values, built of what is valid already: names of the node table, numbers of the kernel, parts of an envelope.

Validating what the scheduler itself has made takes longer than finding the place (a fifth of a decision, measured).
What comes out is the same to the last byte, as `tests/property/scheduler/test_single.py` checks. Nothing that was
read as JSON, or that a user's own plug-in said without a guard, may come this way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from shared.model.base import Value

V = TypeVar("V", bound=Value)
_new, _set = object.__new__, object.__setattr__


class Built(Generic[V]):
    """Builds values of one model, of which always the same fields are `given`; the others are as by default.

    As `BaseModel.model_construct` does, which goes through all fields each time.
    """

    def __init__(self, model: type[V], given: Iterable[str]) -> None:
        self._model = model
        # Shared by all: of a frozen value nothing is given later on, and a copy has its own.
        self._given = set(given)
        # In the order of the fields, in which they are written.
        self._fields: dict[str, Any] = {
            name: None if name in self._given else item.get_default(call_default_factory=True)
            for name, item in model.model_fields.items()
        }

    def __call__(self, values: Mapping[str, Any]) -> V:
        """`values` has what is given, of the types that the fields have; and its own for mutable defaults."""
        value = _new(self._model)
        _set(value, "__dict__", {**self._fields, **values})
        _set(value, "__pydantic_fields_set__", self._given)
        _set(value, "__pydantic_extra__", None)
        _set(value, "__pydantic_private__", None)
        return value
