"""`python -m tests.e2e.next_version services.NAME`: a service as the next version of `v1` may be.

Within `v1` a message only gains optional fields. So every message that this one writes has one more, and so has every
value within it: today's version has to read them all. What people write stays as it is: an unknown field in a request
is a typing error, so a hub that passes on new ones comes behind the schedulers that know them.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic import RootModel

from shared.events.v1.workloads import ApplyWorkload, DeleteWorkload
from shared.model.base import Value

ADDED: Final = "addedByTheNextVersion"
_REQUESTS: Final = (ApplyWorkload, DeleteWorkload)

_to_json = Value.to_json


def _grown(value: object, document: Any) -> Any:
    """The document that `value` makes, with the added field in it and in every value within."""
    if isinstance(value, RootModel):
        return _grown(value.root, document)
    if isinstance(value, Value) and isinstance(document, dict):
        fields = {field.alias or name: getattr(value, name) for name, field in type(value).model_fields.items()}
        return {name: _grown(fields.get(name), item) for name, item in document.items()} | {ADDED: True}
    if isinstance(value, Mapping) and isinstance(document, dict):
        inner = {str(name): item for name, item in value.items()}
        return {name: _grown(inner.get(name), item) for name, item in document.items()}
    if isinstance(value, tuple | list) and isinstance(document, list):
        return [_grown(item, part) for item, part in zip(value, document, strict=True)]
    return document


def to_json(self: Value) -> bytes:
    if isinstance(self, _REQUESTS):
        return _to_json(self)
    return orjson.dumps(_grown(self, orjson.loads(_to_json(self))))


if __name__ == "__main__":
    module = sys.argv.pop(1)
    Value.to_json = to_json  # type: ignore[method-assign]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
