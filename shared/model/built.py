"""Values, built of what is valid already: names of the node table, numbers of the kernel, parts of an envelope.

Validating what the scheduler itself has made takes longer than finding the place (a fifth of a decision, measured).
What comes out is the same to the last byte, as `tests/property/scheduler/test_single.py` checks. Nothing that was
read as JSON, or that a user's own plug-in said without a guard, may come this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from shared.model.base import Value

V = TypeVar("V", bound=Value)
# What an instance of a model consists of.
_put_fields, _put_given, _put_extra, _put_private = (
    vars(BaseModel)[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


def built(model: type[V], given: Iterable[str]) -> Callable[[Mapping[str, Any]], V]:
    """A builder of values of one model, of which always the same fields are `given`; the others are as by default.

    It takes what is given, of the types that the fields have, and a value's own for mutable defaults. It does what
    `BaseModel.model_construct` does, which goes through all fields each time.
    """
    new = object.__new__
    # Shared by all: of a frozen value nothing is given later on, and a copy has its own.
    names = set(given)
    # In the order of the fields, in which they are written.
    fields: dict[str, Any] = {
        name: None if name in names else item.get_default(call_default_factory=True)
        for name, item in model.model_fields.items()
    }

    def build(values: Mapping[str, Any]) -> V:
        value = new(model)
        _put_fields(value, {**fields, **values})
        _put_given(value, names)
        _put_extra(value, None)
        _put_private(value, None)
        return value

    return build
