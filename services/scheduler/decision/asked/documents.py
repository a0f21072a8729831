"""What no document of a request may hold, since it has to be written and read again many times, by many programs.

JSON has no limits, but its readers have: nesting that one reader takes may be too deep for the next, in whose message
the document is wrapped once more, and few keep whole numbers beyond 64 bits. Such a document is refused before it is
part of a decision; a journal that could not be read would stop the cell.
"""

from __future__ import annotations

from math import isfinite

MAX_DEPTH = 100
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1


def document_error(document: object) -> tuple[str, str] | None:
    """The path and the problem of the first value that cannot travel; None where all can."""
    waiting: list[tuple[str, int, object]] = [("", 1, document)]
    while waiting:
        path, depth, value = waiting.pop()
        if isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                return path[:200], f"is nested deeper than {MAX_DEPTH} levels"
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting.extend((f"{path}.{str(key)[:80]}", depth + 1, item) for key, item in items)
        elif isinstance(value, int) and not _MIN_INTEGER <= value <= _MAX_INTEGER:
            return path[:200], "is a whole number of more than 64 bits"
        elif isinstance(value, float) and not isfinite(value):
            return path[:200], "is not a finite number"
    return None
