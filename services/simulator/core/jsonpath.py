"""The subset of JSONPath that printer columns use: fields, indices, wildcards and equality filters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

_STEP = re.compile(
    r"""\.(?P<field>(?:[\w/-]|\\.)+|\*)
      | \[(?P<index>-?\d+|\*)\]
      | \['(?P<quoted>[^']+)'\]
      | \[\?\(@\.(?P<path>[\w.\\-]+)\s*(?P<op>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[\w.-]+)\)\]""",
    re.VERBOSE,
)
Step = tuple[str, str, str, str]
"""Kind (field, index, where), name or path, operator, value."""


@lru_cache(maxsize=1024)
def compile_path(path: str) -> tuple[Step, ...]:
    """The steps of a path; an unknown notation ends the path there.

    Raises:
        ValueError: the path holds a notation that this subset lacks.
    """
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    if text and text[0] not in ".[":
        text = f".{text}"
    steps: list[Step] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ValueError(f"JSONPath {path!r} is not understood at {position}")
        if match["field"] or match["quoted"]:
            steps.append(("field", (match["field"] or match["quoted"]).replace("\\", ""), "", ""))
        elif match["index"]:
            steps.append(("index", match["index"], "", ""))
        else:
            steps.append(("where", match["path"], match["op"], match["value"].strip("\"'")))
        position = match.end()
    return tuple(steps)


def find(value: Any, path: str) -> list[Any]:
    found = [value]
    for kind, name, operator, wanted in compile_path(path):
        found = [inner for outer in found for inner in _step(outer, kind, name, operator, wanted)]
    return found


def _step(value: Any, kind: str, name: str, operator: str, wanted: str) -> Iterator[Any]:
    if kind == "where":
        if isinstance(value, list):
            for element in value:
                matches = any(_text(actual) == wanted for actual in find(element, name))
                if matches is (operator == "=="):
                    yield element
    elif name == "*":
        yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    elif kind == "field":
        if isinstance(value, dict) and name in value:
            yield value[name]
    elif isinstance(value, list) and -len(value) <= int(name) < len(value):
        yield value[int(name)]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
