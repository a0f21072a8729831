"""Field sets and apply, as laws; the examples are in the contract suite."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.simulator.core.apply import Manager, apply, read_managers, track_update, write_managers
from services.simulator.core.fieldsets import decode, difference, encode, paths_of
from services.simulator.core.schema import Schema

Json = dict[str, Any]


def _schema() -> Schema:
    """A map of texts, a list known by `name`, a set and an atomic list."""
    root = Schema("object")
    root.properties["metadata"] = Schema("object", "Meta")
    root.properties["data"] = Schema("object")
    root.properties["data"].values = Schema("string")
    parts = root.properties["parts"] = Schema("array")
    parts.items = Schema("object")
    parts.items.properties = {"name": Schema("string"), "value": Schema("integer")}
    parts.list_type, parts.list_keys = "map", ("name",)
    members = root.properties["members"] = Schema("array")
    members.items, members.list_type = Schema("string"), "set"
    root.properties["atoms"] = Schema("array")
    return root


SCHEMA = _schema()
_names = st.sampled_from("abcd")
_parts = st.dictionaries(_names, st.integers(0, 3), max_size=3).map(
    lambda found: [{"name": name, "value": value} for name, value in found.items()]
)
_objects: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"metadata": st.just({})},
    optional={
        "data": st.dictionaries(_names, _names, max_size=3),
        "parts": _parts,
        "members": st.lists(_names, unique=True, max_size=3),
        "atoms": st.lists(st.integers(0, 3), max_size=2),
    },
)


def _manager(name: str, operation: str = "Apply") -> Manager:
    return Manager(name, operation, "v1", "", "2024-01-01T00:00:00Z", frozenset())


def _applied(live: Json, config: Json, name: str, *, force: bool = True) -> Json:
    result = apply(live, config, SCHEMA, _manager(name), force=force, reset=())
    return {**result.object, "metadata": {"managedFields": write_managers(result.managers)}}


@given(_objects)
def test_sets_survive_their_notation(obj: Json) -> None:
    fields = paths_of(obj, SCHEMA)
    assert decode(encode(fields)) == fields


@given(_objects, _objects)
def test_no_difference_means_equal(old: Json, new: Json) -> None:
    changed, removed = difference(old, new, SCHEMA)
    order_free = {"members", "parts"}

    def normal(obj: Json) -> Json:
        return {k: sorted(v, key=str) if k in order_free else v for k, v in obj.items() if v not in ({}, [])}

    if not changed and not removed:
        assert normal(old) == normal(new)


@given(_objects, _objects)
def test_applying_again_changes_nothing(live: Json, config: Json) -> None:
    once = _applied(live, config, "alpha")
    assert _applied(once, config, "alpha") == once


@given(_objects, _objects)
def test_applying_nothing_takes_back_what_was_applied(first: Json, second: Json) -> None:
    both = _applied(_applied({"metadata": {}}, first, "alpha"), second, "beta")
    without = _applied(both, {"metadata": {}}, "alpha")
    owned = {path for entry in read_managers(without) for path in entry.fields}
    left = paths_of({name: value for name, value in without.items() if name != "metadata"}, SCHEMA)
    assert left <= owned | {path[:n] for path in owned for n in range(len(path))}
    assert {entry.name for entry in read_managers(without)} <= {"beta"}


@given(_objects, _objects)
def test_every_field_of_a_creation_or_update_has_an_owner(old: Json, new: Json) -> None:
    managers = track_update(None, old, SCHEMA, _manager("one", "Update"), ())
    stored = {**old, "metadata": {"managedFields": write_managers(managers)}}
    managers = track_update(stored, {**new, "metadata": stored["metadata"]}, SCHEMA, _manager("two", "Update"), ())
    owned = {path for entry in managers for path in entry.fields}
    assert {path for path in paths_of(new, SCHEMA) if path[0] != "f:metadata"} <= owned
