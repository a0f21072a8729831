"""Whether an object still says what was applied.

The answer to an apply is the object as the server understood it: defaults set, quantities in canonical form, webhooks
run. Its values at the places that the applied manifest names are its fingerprint; drift is that a later version of the
object has another one. So a manifest is never compared with an object, which would see `1000m` and `1` as different and
repair for ever, and what others add beside our fields does not count.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

_ABSENT = "\x00absent"


def fingerprint(wanted: dict[str, Any], live: dict[str, Any]) -> bytes:
    """The values of `live` at the places that `wanted` names, as 16 bytes."""
    projection = _project(wanted, live)
    return hashlib.blake2b(orjson.dumps(projection, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def content_hash(document: object) -> str:
    """SHA-256 of a JSON document, whatever the order of its keys; the first 32 digits."""
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def _project(wanted: Any, live: Any) -> Any:
    if isinstance(wanted, dict) and isinstance(live, dict):
        return {key: _project(value, live[key]) if key in live else _ABSENT for key, value in wanted.items()}
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        return [_project(item, other) for item, other in zip(wanted, live, strict=True)]
    # Lists of other lengths are taken whole: an item that somebody adds costs one apply too many, never one too few.
    return live
