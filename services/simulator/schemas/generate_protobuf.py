"""Writes `protobuf.json`: the wire numbers of the types that typed clients send as protobuf.

`kubectl create deployment` and its like send protobuf and no JSON, so the simulator has to read it. The source is
the `generated.proto` and `types.go` files of k8s.io/api and k8s.io/apimachinery, in folders as a Go module cache has
them; `make testbed` keeps a copy:

    python -m services.simulator.schemas.generate_protobuf ~/.cache/flotilla/testbed/wire-v0.36.3 v0.36.3
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from services.simulator.schemas.roots import KIND_TYPES

TARGET = Path(__file__).with_name("protobuf.json")
_PACKAGE = re.compile(r"^package ([\w.]+);", re.MULTILINE)
_MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s+(optional |repeated |map<string, )([\w.]+)>? (\w+) = (\d+);", re.MULTILINE)
_CARDINALITY = {"optional ": "one", "repeated ": "many", "map<string, ": "map"}
_STRUCT = re.compile(r"^type (\w+) struct \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_POINTER = re.compile(r'^\s+\w+\s+\*[\w.]+\s+`[^`]*json:"(\w+)', re.MULTILINE)
_SCALARS = frozenset({"string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double", "float"})
_GROUPS = {
    "": "core",
    "rbac.authorization.k8s.io": "rbac",
    "coordination.k8s.io": "coordination",
    "storage.k8s.io": "storage",
    "networking.k8s.io": "networking",
    "discovery.k8s.io": "discovery",
    "scheduling.k8s.io": "scheduling",
    "node.k8s.io": "node",
    "events.k8s.io": "events",
    "authorization.k8s.io": "authorization",
    "authentication.k8s.io": "authentication",
    "admissionregistration.k8s.io": "admissionregistration",
}
_EXTRA = ("k8s.io.apimachinery.pkg.apis.meta.v1.DeleteOptions",)

Messages = dict[str, dict[str, list[Any]]]


def read_package(folder: Path) -> Messages:
    """The messages of a package: number to [name, type, cardinality, whether Go has a pointer]."""
    text = (folder / "generated.proto").read_text()
    match = _PACKAGE.search(text)
    assert match is not None
    package = match[1]
    pointers: dict[str, set[str]] = {}
    for source in folder.glob("*types*.go"):
        for name, body in _STRUCT.findall(source.read_text()):
            pointers[name] = set(_POINTER.findall(body))
    messages: Messages = {}
    for name, body in _MESSAGE.findall(text):
        fields = {}
        for label, resolved, field, number in _FIELD.findall(body):
            if resolved not in _SCALARS:
                resolved = resolved.lstrip(".") if "." in resolved else f"{package}.{resolved}"  # noqa: PLW2901
            fields[number] = [field, resolved, _CARDINALITY[label], int(field in pointers.get(name, set()))]
        messages[f"{package}.{name}"] = fields
    return messages


def generate(modules: Path, version: str) -> str:
    messages: Messages = {}
    for proto in sorted((modules / f"api@{version}").glob("*/*/generated.proto")):
        messages |= read_package(proto.parent)
    apimachinery = modules / f"apimachinery@{version}" / "pkg"
    for part in ("apis/meta/v1", "api/resource", "runtime", "util/intstr"):
        messages |= read_package(apimachinery / part)
    kinds = {}
    for group, group_version, kind in KIND_TYPES:
        name = f"k8s.io.api.{_GROUPS.get(group, group)}.{group_version}.{kind}"
        if name in messages:
            kinds[f"{group}/{group_version}/{kind}"] = name
    reachable: set[str] = set()
    pending = [*kinds.values(), *_EXTRA]
    while pending:
        name = pending.pop()
        if name in messages and name not in reachable:
            reachable.add(name)
            pending += [entry[1] for entry in messages[name].values()]
    lines = [f'"{name}": {json.dumps(messages[name])}' for name in sorted(reachable)]
    return '{"kinds": ' + json.dumps(kinds, indent=0) + ',\n"messages": {\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    TARGET.write_text(generate(Path(sys.argv[1]), sys.argv[2]))
    sys.stdout.write(f"{TARGET}\n")
