"""When a cluster's API server or etcd did not answer, as a history tells it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from tests.chaos.journalist import SERVES
from tests.simulation.history import Lived

_FOR_EVER_MS: Final = 2**62


def outages(lives: Sequence[Lived], after_ms: int) -> dict[str, list[tuple[int, int]]]:
    """By cluster, from when until when (in milliseconds), and `after_ms` longer; one that did not end is for ever."""
    began: dict[str, int] = {}
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for life in lives:
        cluster, slash, _ = life.process.partition("/")
        if slash and life.event == SERVES and life.process in began:
            found[cluster].append((began.pop(life.process), life.at_ms + after_ms))
        elif slash and life.event in {"killed", "paused"}:
            began[life.process] = life.at_ms
    for process, at_ms in began.items():
        found[process.partition("/")[0]].append((at_ms, _FOR_EVER_MS))
    return found
