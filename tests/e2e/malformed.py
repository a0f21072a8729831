"""Requests that are wrong by construction, each in one way: what users, broken clients and attackers send."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.events.topics import MAX_REQUEST_BYTES, REQUESTS
from shared.ports.event_log import NewRecord

Json = dict[str, Any]
_BATCH = 20


@dataclass(frozen=True, slots=True)
class Malformed:
    """One wrong request: what is wrong, and the record's body and headers."""

    what: str
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    def record(self, name: str) -> NewRecord:
        """As the request of a workload of that name, so that what is wrong is the only thing that is."""
        value = self.value.replace(b'"victim"', f'"{name}"'.encode()) if self.value else self.value
        return NewRecord(REQUESTS.name, f"bad/{name}".encode(), value, self.headers)


def valid() -> Json:
    return {
        "operation": "apply",
        "workload": {
            "namespace": "bad",
            "name": "victim",
            "labels": {"app": "x"},
            "podSets": [
                {
                    "name": "main",
                    "replicas": 1,
                    "image": "nginx",
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                }
            ],
            "placement": {"binding": "cluster"},
        },
    }


def _changed(path: tuple[str | int, ...], value: Any) -> bytes:
    document = valid()
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document).encode()


def _without(path: tuple[str | int, ...]) -> bytes:
    document = copy.deepcopy(valid())
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return json.dumps(document).encode()


_SET = ("workload", "podSets", 0)
_not_text = st.one_of(st.none(), st.integers(), st.booleans(), st.lists(st.integers(), max_size=2))
_bad_names = st.one_of(
    st.text(alphabet="ABCXYZ_./ ", min_size=1, max_size=20),
    st.from_regex(r"\A-[a-z0-9]{1,10}\Z"),
    st.from_regex(r"\A[a-z]{64,80}\Z"),
    st.just(""),
)
_bad_quantities = st.one_of(
    st.text(alphabet="ghjqwxyz!?", min_size=1, max_size=10),
    st.sampled_from(["", " 1", "1 Gi", "--1", "1.2.3", "1e", "0x10", "\u0661", "1Mb", "-1", "NaN", "inf", "9e99"]),
)

_BY_FIELD: tuple[tuple[str, st.SearchStrategy[bytes]], ...] = (
    ("a name that is none", _bad_names.map(lambda v: _changed(("workload", "name"), v))),
    ("a name of the wrong type", _not_text.map(lambda v: _changed(("workload", "name"), v))),
    ("a namespace that is none", _bad_names.map(lambda v: _changed(("workload", "namespace"), v))),
    ("a pod set's name that is none", _bad_names.map(lambda v: _changed((*_SET, "name"), v))),
    ("cpu that is no quantity", _bad_quantities.map(lambda v: _changed((*_SET, "resources", "requests", "cpu"), v))),
    (
        "replicas out of range",
        st.one_of(st.integers(max_value=-1), st.integers(min_value=100_001)).map(
            lambda v: _changed((*_SET, "replicas"), v)
        ),
    ),
    (
        "replicas that are no number",
        st.sampled_from(["x", [], {}, 1.5]).map(lambda v: _changed((*_SET, "replicas"), v)),
    ),
    ("no pod sets", st.sampled_from([[], None, {}, "main"]).map(lambda v: _changed(("workload", "podSets"), v))),
    ("image and manifest", st.just(_changed((*_SET, "manifest"), {"apiVersion": "v1", "kind": "Pod"}))),
    ("neither image nor anything else", st.just(_without((*_SET, "image")))),
    (
        "a missing field",
        st.sampled_from([("workload", "name"), ("workload", "podSets"), ("workload",), ("operation",)]).map(_without),
    ),
    (
        "an unknown field",
        st.from_regex(r"\Ax[a-z]{3,12}\Z").flatmap(
            lambda name: st.sampled_from([(name,), ("workload", name), (*_SET, name)]).map(
                lambda path: _changed(path, 1)
            )
        ),
    ),
    ("an unknown operation", st.text(max_size=12).map(lambda v: _changed(("operation",), f"?{v}"))),
    ("an unknown binding", st.text(max_size=12).map(lambda v: _changed(("workload", "placement", "binding"), f"?{v}"))),
    ("a label that is none", st.just(_changed(("workload", "labels"), {"a b": "c"}))),
    ("a requested amount over its limit", st.just(_changed((*_SET, "resources", "limits"), {"cpu": "50m"}))),
    ("a change of what is not there", st.just(_changed(("operation",), "change"))),
)


def _truncated(cut: int) -> bytes:
    whole = json.dumps(valid()).encode()
    return whole[: cut % (len(whole) - 1)]


_BY_BYTES: tuple[tuple[str, st.SearchStrategy[bytes | None]], ...] = (
    ("truncated", st.integers(0, 10_000).map(_truncated)),
    ("not JSON", st.binary(min_size=1, max_size=200).map(lambda b: b"\xff" + b)),
    ("another encoding", st.sampled_from(["utf-16", "utf-32", "cp037"]).map(lambda e: json.dumps(valid()).encode(e))),
    ("not an object", st.sampled_from([b"[]", b"1", b'"x"', b"null", b"true", b"NaN", b"{}"])),
    ("deeply nested", st.integers(1_000, 50_000).map(lambda n: b"[" * n)),
    ("deeply nested objects", st.integers(1_000, 20_000).map(lambda n: b'{"a":' * n)),
    ("YAML with references", st.just(b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n")),
    ("YAML that would run code", st.just(b'!!python/object/apply:os.system ["true"]')),
    ("two documents", st.just(json.dumps(valid()).encode() * 2)),
    ("a number without end", st.integers(400, 5_000).map(lambda n: b'{"operation":' + b"9" * n + b"}")),
    ("nothing", st.sampled_from([b"", None])),
)
_OVERSIZED = json.dumps({**valid(), "padding": "x" * MAX_REQUEST_BYTES}).encode()
_GOOD = json.dumps(valid()).encode()
_HEADERS = (
    ("a time that is none", ("ce_time", b"yesterday")),
    ("a time without a zone", ("ce_time", b"2026-01-01T00:00:00")),
    ("a header that is not UTF-8", ("ce_id", b"\xff\xfe")),
    ("the type of another event", ("ce_type", b"fleet.status.changed.v1")),
    ("an epoch that is none", ("fleet_epoch", b"-1")),
)


def _strategies() -> st.SearchStrategy[Malformed]:
    def of(what: str) -> Callable[[bytes | None], Malformed]:
        return lambda value: Malformed(what, value)

    bodies = [strategy.map(of(what)) for what, strategy in (*_BY_FIELD, *_BY_BYTES)]
    headers = st.sampled_from(_HEADERS).map(lambda item: Malformed(item[0], _GOOD, (item[1],)))
    return st.one_of(*bodies, headers)


def generate(count: int) -> list[Malformed]:
    """`count` malformed requests, always the same; every hundredth is larger than a request may be."""
    found: list[Malformed] = []

    @settings(
        max_examples=count // _BATCH + 1, database=None, derandomize=True, phases=[Phase.generate],
        deadline=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(_strategies(), min_size=_BATCH, max_size=_BATCH))
    def collect(batch: list[Malformed]) -> None:
        found.extend(batch)

    collect()
    while len(found) < count:  # the space of an exhausted strategy is smaller than what was asked for
        found.extend(found[: count - len(found)])
    oversized = Malformed("too large", _OVERSIZED)
    return [oversized if number % 100 == 99 else item for number, item in enumerate(found[:count])]
