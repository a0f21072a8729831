"""Storage: versions, the window of events, earlier states."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.simulator.core.reading import items_at
from services.simulator.core.store import Event, Store

Json = dict[str, Any]
_WRITES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "drop"])), max_size=40)


def _object(name: str, value: int, **meta: Any) -> Json:
    return {"metadata": {"namespace": "n", "name": name, **meta}, "value": value}


def _write(store: Store, name: str, what: str, value: int) -> None:
    exists = store.collection("things").get("n", name) is not None
    if what == "drop":
        if exists:
            store.remove("things", ("n", name))
    elif exists:
        store.replace("things", _object(name, value))
    else:
        store.insert("things", _object(name, value))


@given(_WRITES)
def test_events_replay_to_the_state(writes: list[tuple[str, str]]) -> None:
    store = Store(1, 1000)
    state: dict[str, Json] = {}
    for value, (name, what) in enumerate(writes):
        _write(store, name, what, value)
    for event in store.collection("things").since(0):
        name = event.item.object["metadata"]["name"]
        if event.type == "DELETED":
            del state[name]
        else:
            assert (event.type == "ADDED") is (name not in state)
            state[name] = event.item.object
    assert state == {name: item.object for (_, name), item in store.collection("things").items.items()}


@given(_WRITES)
def test_every_earlier_state_can_be_rebuilt(writes: list[tuple[str, str]]) -> None:
    store = Store(1, 1000)
    history: dict[int, list[Json]] = {}
    for value, (name, what) in enumerate(writes):
        _write(store, name, what, value)
        history[store.version] = [item.object for item in store.collection("things").in_namespace("n")]
    for version, expected in history.items():
        assert [item.object for item in items_at(store.collection("things"), "n", version)] == expected


def test_the_version_grows_with_every_write_of_any_collection() -> None:
    store = Store(10, 10)
    versions = [store.insert(name, _object("x", 1)).version for name in ("a", "b", "c")]
    assert versions == [11, 12, 13]


def test_the_window_forgets_and_says_from_where_it_knows() -> None:
    store = Store(0, 3)
    for number in range(5):
        store.insert("things", _object(f"x{number}", number))
    things = store.collection("things")
    assert [event.version for event in things.since(things.oldest)] == [3, 4, 5]
    assert things.oldest == 2


def test_stored_objects_and_bytes_are_shared() -> None:
    store = Store(0, 10)
    seen: list[Event] = []
    store.collection("things").listeners.append(seen.append)
    item = store.insert("things", _object("x", 1))
    assert seen[0].item is item
    assert item.raw is item.raw
    assert seen[0].wire is seen[0].wire
    assert seen[0].wire == b'{"type":"ADDED","object":' + item.raw + b"}\n"


def test_owners_know_their_dependents() -> None:
    store = Store(0, 10)
    owned = _object("x", 1, ownerReferences=[{"uid": "u"}])
    store.insert("things", owned)
    assert store.dependents("u") == [("things", ("n", "x"))]
    store.replace("things", _object("x", 2))
    assert store.dependents("u") == []


def test_an_index_follows_changes() -> None:
    store = Store(0, 10, {"things": {"value": lambda obj: str(obj["value"])}})
    things = store.collection("things")
    store.insert("things", _object("x", 1))
    store.insert("things", _object("y", 1))
    assert len(things.indexed("value", "1")) == 2
    store.replace("things", _object("x", 2))
    store.remove("things", ("n", "y"))
    assert [len(things.indexed("value", value)) for value in ("1", "2")] == [0, 1]
