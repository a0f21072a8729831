"""What happened, as data: appends to the log, writes to clusters, lives of processes.

The checker reads nothing else, so that it can judge a history of the real test bed as well: there the appends are read
back from Kafka, the writes from the API servers' watches and the lives from the test's own record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

Json = dict[str, Any]
# The author of what no process of the fleet did.
USERS = "users"


@dataclass(frozen=True, slots=True)
class Appended:
    """A record that the log took. `author` is a process, or `users`."""

    at_ms: int
    author: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """An API server's write: `object` is the new state, or the last one of what was deleted.

    `author` is the process whose request it was; empty for the cluster's own controllers and for people.
    """

    at_ms: int
    author: str
    cluster: str
    verb: Literal["ADDED", "MODIFIED", "DELETED"]
    resource: str
    object: Json


@dataclass(frozen=True, slots=True)
class Lived:
    """Something happened to a process: it started, was killed, paused, resumed, stopped, or failed by itself."""

    at_ms: int
    process: str
    event: str
    detail: str = ""


@dataclass(slots=True)
class History:
    appends: list[Appended] = field(default_factory=list)
    writes: list[Written] = field(default_factory=list)
    lives: list[Lived] = field(default_factory=list)
    # What services logged as their own defects.
    complaints: list[Lived] = field(default_factory=list)
    # The most records that a queue of a process ever held, by process.
    backlogs: dict[str, int] = field(default_factory=dict)
    # When the log cleaner took records away, by topic, partition and offset.
    cleaned: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def digest(self) -> str:
        """Equal for two runs that did the same."""
        hasher = blake2b(digest_size=16)
        for append in self.appends:
            hasher.update(
                repr((append.at_ms, append.author, append.topic, append.partition, append.key, append.headers)).encode()
            )
            hasher.update(append.value or b"-")
        for write in self.writes:
            meta = write.object["metadata"]
            what = (write.at_ms, write.author, write.cluster, write.verb, write.resource)
            hasher.update(repr((*what, meta["name"], meta["resourceVersion"])).encode())
        for life in self.lives:
            hasher.update(repr(life).encode())
        return hasher.hexdigest()
