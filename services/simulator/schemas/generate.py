"""Writes `builtin.json`: the fields of every built-in type that the simulator serves.

The source is kubernetes-asyncio's models, which are generated from the OpenAPI document of one Kubernetes
release; so the simulator knows every field of that release, and `python -m services.simulator.schemas.generate`
after an upgrade of the library is all that a newer release needs. A unit test fails while the two differ.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubernetes_asyncio.client import models

from services.simulator.schemas.roots import EXTRA_TYPES, KIND_TYPES

TARGET = Path(__file__).with_name("builtin.json")
_SCALARS = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "datetime": "time",
    "object": "any",
    "bytearray": "string",
    "file": "string",
}
_MISSING = re.compile(r"Invalid value for `(?P<name>\w+)`, must not be `None`")


def _convert(text: str) -> tuple[str, str | None]:
    """Turns `list[V1Foo]` into (`list<V1Foo>`, `V1Foo`): the notation here and the type that it refers to."""
    if text.startswith("list["):
        inner, reference = _convert(text[5:-1])
        return f"list<{inner}>", reference
    if text.startswith("dict("):
        inner, reference = _convert(text[5:-1].partition(", ")[2])
        return f"map<{inner}>", reference
    if text in _SCALARS:
        return _SCALARS[text], None
    return text, text


def _required(model: Any) -> Iterator[str]:
    """The attributes without which the model refuses to be built, found by trying."""
    given: dict[str, Any] = {}
    while True:
        try:
            model(**given)
        except ValueError as error:
            match = _MISSING.search(str(error))
            if match is None:
                # An enum refused the placeholder: everything before it was accepted, so name it from the text.
                return
            given[match["name"]] = ""
            yield match["name"]
        else:
            return


def describe(name: str) -> tuple[dict[str, Any], set[str]]:
    model = getattr(models, name)
    fields: dict[str, str] = {}
    references: set[str] = set()
    for attribute, text in model.openapi_types.items():
        fields[model.attribute_map[attribute]], reference = _convert(text)
        if reference:
            references.add(reference)
    described: dict[str, Any] = {"fields": fields}
    required = sorted(model.attribute_map[attribute] for attribute in _required(model))
    if required:
        described["required"] = required
    return described, references


def generate() -> str:
    pending = {*KIND_TYPES.values(), *EXTRA_TYPES}
    types: dict[str, Any] = {}
    while pending:
        name = pending.pop()
        types[name], references = describe(name)
        pending |= references - types.keys()
    lines = (f"{json.dumps(name)}: {json.dumps(types[name], sort_keys=True)}" for name in sorted(types))
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    TARGET.write_text(generate())
    sys.stdout.write(f"{TARGET}\n")
