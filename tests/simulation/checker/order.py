"""`fleet.objects` never goes back: of one object no older version follows a newer one."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from shared.events.topics import OBJECTS
from shared.model.identities import is_object_key
from tests.simulation.checker.evidence import Evidence, Violation


def check(evidence: Evidence) -> Iterator[Violation]:
    newest: dict[str, int] = {}
    told: set[str] = set()
    for append in evidence.history.appends:
        if append.topic != OBJECTS.name or append.value is None:
            continue
        key = (append.key or b"").decode()
        if not is_object_key(key):
            continue
        meta = orjson.loads(append.value)["metadata"]
        uid, version = f"{key}/{meta['uid']}", int(meta["resourceVersion"])
        if version < newest.get(uid, 0) and key not in told:
            told.add(key)
            yield Violation("went back", key, f"version {version} follows {newest[uid]}, from {append.author}")
        newest[uid] = max(version, newest.get(uid, 0))
