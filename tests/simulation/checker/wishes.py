"""The hub asks for what users made of its objects, and for nothing else: never for what is over, and once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from services.hub.decision.resources import WORKLOAD_UID_ANNOTATION
from shared.events.registry import decode
from shared.events.topics import AUDIT, PLACEMENTS
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.placements import PlacementPublished
from tests.simulation.checker.evidence import Evidence, Violation
from tests.simulation.checker.hub import WORKLOADS, mirrors, of_the_hub, request_id
from tests.simulation.history import USERS, Appended, Written

# Stands behind every generation of its object.
_DELETE = "delete"


def check(evidence: Evidence) -> Iterator[Violation]:
    evidence.take()
    writes = [write for write in evidence.history.writes if write.resource == WORKLOADS]
    asked = [append for append in evidence.requests if of_the_hub(append)]
    yield from _unasked(writes, asked)
    yield from _backwards(writes, asked)
    yield from _twice(evidence, asked)
    yield from _let_go(evidence, writes)
    yield from _unaudited(evidence, asked)


def _parts(append: Appended) -> tuple[str, str]:
    """The uid of the object, and its generation or `delete`."""
    uid, what, *_ = request_id(append).split(".")
    return uid, what


def _unasked(writes: list[Written], asked: list[Appended]) -> Iterator[Violation]:
    """Behind every request stands what a user wrote: a generation of an object as it is asked for, or its deletion."""
    wanted: dict[tuple[str, str], Written] = {}
    for write in writes:
        meta = write.object["metadata"]
        what = _DELETE if write.verb == "DELETED" or "deletionTimestamp" in meta else str(meta["generation"])
        wanted.setdefault((meta["uid"], what), write)
    for append in asked:
        will = wanted.get(_parts(append))
        key, what = (append.key or b"").decode(), request_id(append)
        if will is None or will.at_ms > append.at_ms:
            yield Violation("unasked", key, f"nobody wanted {what}")
        elif will.author != USERS:
            yield Violation("unasked", key, f"{what} was the will of {will.author} alone")
        elif mirrors(will.object) and _parts(append)[1] != _DELETE:
            yield Violation("unasked", key, f"{what} asks for what is shown")
    for write in writes:
        if write.verb == "DELETED" and write.author != USERS and not mirrors(write.object):
            meta = write.object["metadata"]
            if wanted[meta["uid"], _DELETE].author != USERS:
                yield Violation("deleted", f"hub/{meta['name']}", f"{write.author} deleted what a user made")


def _backwards(writes: list[Written], asked: list[Appended]) -> Iterator[Violation]:
    """Of one name no older wish follows a newer one: neither an older generation, nor one of a former object."""
    age = {uid: number for number, uid in enumerate(dict.fromkeys(write.object["metadata"]["uid"] for write in writes))}
    newest: dict[str, tuple[int, float]] = {}
    for append in asked:
        key, (uid, what) = (append.key or b"").decode(), _parts(append)
        wish = (age.get(uid, -1), float("inf") if what == _DELETE else float(what))
        if wish < newest.get(key, wish):
            yield Violation("asked back", key, f"{request_id(append)} follows what is newer, from {append.author}")
        newest[key] = max(wish, newest.get(key, wish))


def _twice(evidence: Evidence, asked: list[Appended]) -> Iterator[Violation]:
    """A request may be repeated, and is the same then: it makes one workload, and is not both taken and refused.

    Not so a deletion: repeated behind the workload's end it finds nothing, and is told so.
    """
    made: dict[str, set[str]] = defaultdict(set)
    for append in asked:
        if _parts(append)[1] == _DELETE:
            continue
        for outcome in evidence.journal.outcomes.get(f"{append.topic}/{append.partition}/{append.offset}", ()):
            decision = outcome.decision
            made[request_id(append)].add(decision.uid if decision.kind == "placed" else "refused")
    for wish, ends in made.items():
        if len(ends) > 1:
            yield Violation("done twice", wish, f"became {sorted(ends)}")


def _unaudited(evidence: Evidence, asked: list[Appended]) -> Iterator[Violation]:
    """What was asked for stands in the audit, as often as the hub died over it."""
    audited = {
        dict(append.headers)["ce_id"].decode() for append in evidence.history.appends if append.topic == AUDIT.name
    }
    for append in asked:
        if f"{request_id(append)}.audit" not in audited:
            yield Violation(
                "unaudited", (append.key or b"").decode(), f"nobody can tell who asked for {request_id(append)}"
            )


def _let_go(evidence: Evidence, writes: list[Written]) -> Iterator[Violation]:
    """An object is there for as long as the fleet says that it has what it asked for, or what it shows.

    What was said to be over stays over: a publisher may say what was before once more, and then the end again.
    """
    placed: dict[str, WorkloadPlaced] = {}
    over: set[str] = set()
    gone = iter([write for write in writes if write.verb == "DELETED"])
    write = next(gone, None)
    for append in evidence.history.appends:
        if append.topic != PLACEMENTS.name:
            continue
        while write is not None and write.at_ms < append.at_ms:
            yield from _judge(placed, over, write)
            write = next(gone, None)
        key = (append.key or b"").decode()
        published = decode(PlacementPublished, append.value).placement if append.value is not None else None
        if published is not None:
            placed[key] = published
        elif key in placed:
            over.add(placed.pop(key).uid)


def _judge(placed: dict[str, WorkloadPlaced], over: set[str], write: Written) -> Iterator[Violation]:
    meta = write.object["metadata"]
    key = f"{meta['namespace']}/{meta['name']}"
    known = placed.get(key)
    if known is None or known.uid in over:
        return
    if mirrors(write.object):
        if (meta.get("annotations") or {}).get(WORKLOAD_UID_ANNOTATION) == known.uid:
            yield Violation("let go early", key, f"{write.author} let it go, and what it shows is placed")
    elif known.request.id.startswith(f"{meta['uid']}."):
        yield Violation("let go early", key, f"{write.author} let it go, and {known.request.id} is placed")
