"""Sets of fields: which paths an object has, how two objects differ, and the `FieldsV1` notation.

Source: sigs.k8s.io/structured-merge-diff. A path is a tuple of elements in the notation of `FieldsV1`: `f:name` for a
field, `k:{...}` for an element of a list that is known by keys, `v:value` for a member of a set.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from services.simulator.core.schema import Schema

Path = tuple[str, ...]
FieldSet = frozenset[Path]

EMPTY: FieldSet = frozenset()
# Objects of one shape are owned alike: so many sets are kept in both notations.
_KNOWN = 4096
_DEFAULT_KEYS = {"protocol": "TCP"}
"""List keys that may be left out because they have a default."""


def element_key(element: Any, schema: Schema) -> str:
    """The path element of a member of an associative list."""
    if schema.list_type == "set":
        return "v:" + orjson.dumps(element).decode()
    keys = {
        name: element.get(name, _DEFAULT_KEYS.get(name))
        for name in sorted(schema.list_keys)
        if element.get(name, _DEFAULT_KEYS.get(name)) is not None
    }
    return "k:" + orjson.dumps(keys).decode()


def is_associative(schema: Schema) -> bool:
    return schema.type == "array" and schema.list_type != "atomic"


def is_granular(value: Any, schema: Schema) -> bool:
    """Whether a map's fields are owned one by one; maps without a schema are."""
    return isinstance(value, dict) and not schema.atomic and schema.type in {"object", "any"}


def paths_of(value: Any, schema: Schema) -> FieldSet:
    """Every leaf of a value, and the elements of its associative lists: what an apply owns."""
    found: set[Path] = set()
    _collect(value, schema, (), found, containers=False)
    return frozenset(found)


_ALWAYS_THERE = frozenset(
    {
        "containers",
        "metadata",
        "spec",
        "status",
        "template",
        "jobTemplate",
        "strategy",
        "updateStrategy",
        "source",
        "scaleTargetRef",
        "loadBalancer",
    }
)
"""Fields of built-in types that Go holds by value: even an empty object has them, so no write adds them."""


def _collect(value: Any, schema: Schema, path: Path, found: set[Path], *, containers: bool) -> None:
    """The paths of a value; with `containers` also its maps and lists, which an update that adds them owns."""
    if is_granular(value, schema) and (value or not path):
        if containers:
            found.add(path)
        for name, inner in value.items():
            _collect(inner, schema.child(name), (*path, f"f:{name}"), found, containers=containers)
    elif is_associative(schema) and isinstance(value, list) and value:
        if containers:
            found.add(path)
        for inner in value:
            inner_path = (*path, element_key(inner, schema))
            found.add(inner_path)
            if schema.list_type == "map":
                _collect(inner, schema.element, inner_path, found, containers=containers)
    else:
        found.add(path)


def difference(old: Any, new: Any, schema: Schema) -> tuple[FieldSet, FieldSet]:
    """(added or modified, removed) paths between two versions of an object."""
    changed: set[Path] = set()
    removed: set[Path] = set()
    _compare(old, new, schema, (), changed, removed)
    return frozenset(changed), frozenset(removed)


def _compare(old: Any, new: Any, schema: Schema, path: Path, changed: set[Path], removed: set[Path]) -> None:
    if old is new or (type(old) is type(new) and old == new):
        return
    if is_granular(old, schema) and is_granular(new, schema):
        _compare_maps(old, new, schema, path, changed, removed)
    elif is_associative(schema) and isinstance(old, list) and isinstance(new, list):
        before = {element_key(inner, schema): inner for inner in old}
        after = {element_key(inner, schema): inner for inner in new}
        for key in before.keys() | after.keys():
            inner_path = (*path, key)
            if key not in after:
                removed.add(inner_path)
                _collect(before[key], schema.element, inner_path, removed, containers=True)
            elif key not in before:
                changed.add(inner_path)
                _collect(after[key], schema.element, inner_path, changed, containers=True)
            else:
                _compare(before[key], after[key], schema.element, inner_path, changed, removed)
    else:
        changed.add(path)


def _compare_maps(
    old: dict[str, Any],
    new: dict[str, Any],
    schema: Schema,
    path: Path,
    changed: set[Path],
    removed: set[Path],
) -> None:
    for name in old.keys() | new.keys():
        child, inner_path = schema.child(name), (*path, f"f:{name}")
        if name not in new:
            _collect(old[name], child, inner_path, removed, containers=True)
        elif name in old:
            _compare(old[name], new[name], child, inner_path, changed, removed)
        elif name in _ALWAYS_THERE and (child.name or child.type == "array"):
            _compare([] if child.type == "array" else {}, new[name], child, inner_path, changed, removed)
        else:
            _collect(new[name], child, inner_path, changed, containers=True)


@lru_cache(maxsize=_KNOWN)
def encode(fields: FieldSet) -> dict[str, Any]:
    """The nested `FieldsV1` of a set of paths; shared by all who own the same, so nobody may change it."""
    tree: dict[str, Any] = {}
    for path in sorted(fields, key=len):
        node = tree
        for element in path:
            node = node.setdefault(element, {})
    return _mark_members(tree, fields, ())


def _mark_members(node: dict[str, Any], fields: FieldSet, path: Path) -> dict[str, Any]:
    marked: dict[str, Any] = {}
    if node and path in fields:
        marked["."] = {}
    for element in sorted(node):
        marked[element] = _mark_members(node[element], fields, (*path, element))
    return marked


def decode(tree: dict[str, Any]) -> FieldSet:
    return _decode(orjson.dumps(tree))


@lru_cache(maxsize=_KNOWN)
def _decode(text: bytes) -> FieldSet:
    found: set[Path] = set()
    _unmark(orjson.loads(text), (), found)
    return frozenset(found)


def _unmark(node: dict[str, Any], path: Path, found: set[Path]) -> None:
    if path and (not node or "." in node):
        found.add(path)
    for element, inner in node.items():
        if element != ".":
            _unmark(inner, (*path, element), found)


def readable(path: Path) -> str:
    """The path as conflicts show it: `.spec.containers[name="app"].image`."""
    text = ""
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            keys = orjson.loads(rest)
            text += "[" + ",".join(f"{name}={orjson.dumps(value).decode()}" for name, value in keys.items()) + "]"
        else:
            text += f"[={rest}]"
    return text
