"""What a plan asked of the fleet, in its order, and what it was told: kept while it is made, and given again later."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from services.autoscaler.decision.nodes.fleet import Sized
from services.autoscaler.decision.nodes.looks import LooksReader, LooksWriter
from services.autoscaler.decision.nodes.seen import GroupKey, Seen
from shared.events.v1.clusters import NodeGroup as DeclaredGroup
from shared.events.v1.results import CommandReported

T = TypeVar("T")
Kind = Literal["groups", "open", "there", "seen", "report"]


class Fleet(Protocol):
    """What plans ask: see `fleet.FleetSeen`."""

    @property
    def groups(self) -> Mapping[GroupKey, DeclaredGroup]: ...

    def open_clusters(self, now_ms: int) -> frozenset[str]: ...

    def there(self) -> dict[GroupKey, set[str]]: ...

    def seen(self, sized: Mapping[GroupKey, Sized], now_ms: int, *, coming: bool) -> Seen: ...


class Call(NamedTuple):
    """What was asked and the answer; or a report that came in between, and when."""

    kind: Kind
    value: Any


@dataclass(frozen=True, slots=True)
class Reported:
    report: CommandReported
    at_ms: int


class WatchedFleet:
    """Keeps the answers of a fleet between `begin` and `take`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._calls: list[Call] | None = None

    def begin(self) -> None:
        self._calls = []

    def take(self) -> list[Call]:
        found, self._calls = self._calls or [], None
        return found

    def reported(self, report: CommandReported, at_ms: int) -> None:
        """An executor said something, which changes what is remembered."""
        self._note("report", Reported(report, at_ms))

    @property
    def groups(self) -> Mapping[GroupKey, DeclaredGroup]:
        return self._note("groups", self._fleet.groups)

    def open_clusters(self, now_ms: int) -> frozenset[str]:
        return self._note("open", self._fleet.open_clusters(now_ms))

    def there(self) -> dict[GroupKey, set[str]]:
        return self._note("there", self._fleet.there())

    def seen(self, sized: Mapping[GroupKey, Sized], now_ms: int, *, coming: bool) -> Seen:
        return self._note("seen", self._fleet.seen(sized, now_ms, coming=coming))

    def _note(self, kind: Kind, value: T) -> T:
        if self._calls is not None:
            self._calls.append(Call(kind, value))
        return value


class PlayedFleet:
    """Answers as another was answered. Raises ValueError for what was not asked then."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._calls = deque(calls)

    def reports(self) -> Iterator[Reported]:
        """Those that came before the next question."""
        while self._calls and self._calls[0].kind == "report":
            yield self._calls.popleft().value

    @property
    def groups(self) -> Mapping[GroupKey, DeclaredGroup]:
        found: Mapping[GroupKey, DeclaredGroup] = self._next("groups")
        return found

    def open_clusters(self, now_ms: int) -> frozenset[str]:
        del now_ms
        found: frozenset[str] = self._next("open")
        return found

    def there(self) -> dict[GroupKey, set[str]]:
        found: dict[GroupKey, set[str]] = self._next("there")
        return found

    def seen(self, sized: Mapping[GroupKey, Sized], now_ms: int, *, coming: bool) -> Seen:
        del sized, now_ms, coming
        found: Seen = self._next("seen")
        return found

    def _next(self, kind: Kind) -> Any:
        call = self._calls.popleft() if self._calls else None
        if call is None or call.kind != kind:
            raise ValueError(f"it asks for {kind}, where {call.kind if call else 'nothing'} was asked for")
        return call.value


# --- as it is written ---


def written(calls: Sequence[Call]) -> dict[str, Any]:
    writer = LooksWriter()
    declared: dict[int, int] = {}
    groups: list[Any] = []
    found: list[Any] = []
    for kind, value in calls:
        match kind:
            case "groups":
                if id(value) not in declared:
                    declared[id(value)] = len(groups)
                    groups.append([[*key, item.model_dump(mode="json", by_alias=True)] for key, item in value.items()])
                found.append([kind, declared[id(value)]])
            case "open":
                found.append([kind, sorted(value)])
            case "there":
                found.append([kind, [[*key, sorted(names)] for key, names in value.items()]])
            case "seen":
                found.append([kind, writer.write(value)])
            case "report":
                found.append([kind, [value.report.model_dump(mode="json", by_alias=True), value.at_ms]])
    return {"calls": found, "groups": groups, **writer.document()}


def read(document: Mapping[str, Any]) -> list[Call]:
    """Raises ValueError, KeyError, IndexError or TypeError for what nobody wrote."""
    reader = LooksReader(document)
    groups = [
        {GroupKey(cluster, name): DeclaredGroup.model_validate(item) for cluster, name, item in each}
        for each in document["groups"]
    ]
    found: list[Call] = []
    for kind, value in document["calls"]:
        match kind:
            case "groups":
                found.append(Call(kind, groups[value]))
            case "open":
                found.append(Call(kind, frozenset(value)))
            case "there":
                found.append(Call(kind, {GroupKey(cluster, name): set(names) for cluster, name, names in value}))
            case "seen":
                found.append(Call(kind, reader.read(value)))
            case "report":
                report, at_ms = value
                found.append(Call(kind, Reported(CommandReported.model_validate(report), at_ms)))
            case _:
                raise ValueError(f"nobody asks for {kind}")
    return found
