"""What a cluster serves: resources, their names, verbs and subresources; and where to look them up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from services.simulator.core.schema import ANY, Schema

CRUD = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
READ_ONLY = ("get", "list")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: a JSONPath and how to show what it finds."""

    name: str
    type: str
    json_path: str
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ScaleSpec:
    """Where a custom resource keeps what its scale subresource shows (dotted paths)."""

    spec_replicas: str = ".spec.replicas"
    status_replicas: str = ".status.replicas"
    label_selector: str = ".spec.selector"


@dataclass(frozen=True, slots=True)
class Resource:
    """One served version of a resource. Storage is shared between the versions of a (group, plural)."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    schema: Schema = ANY
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = CRUD
    status: bool = False
    scale: ScaleSpec | None = None
    columns: tuple[Column, ...] = ()
    custom: bool = False
    selectable: tuple[str, ...] = ()
    subresources: tuple[tuple[str, str, str, str], ...] = ()
    """Further subresources as (name, group, version, kind), all of which are created."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def storage(self) -> str:
        return self.qualified

    @property
    def qualified(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(slots=True)
class ResourceRegistry:
    """The resources of one cluster; changes only when custom resource definitions do."""

    _served: dict[tuple[str, str, str], Resource] = field(default_factory=dict)
    _kinds: dict[tuple[str, str, str], Resource] = field(default_factory=dict)
    generation: int = 0

    def add(self, resources: Iterable[Resource]) -> None:
        for resource in resources:
            self._served[resource.group, resource.version, resource.plural] = resource
            self._kinds[resource.group, resource.version, resource.kind] = resource
        self.generation += 1

    def remove(self, group: str, plural: str) -> None:
        for key in [key for key in self._served if key[0] == group and key[2] == plural]:
            resource = self._served.pop(key)
            self._kinds.pop((group, resource.version, resource.kind), None)
        self.generation += 1

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._served.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        group, _, version = api_version.rpartition("/")
        return self._kinds.get((group, version, kind))

    def of_group_kind(self, group: str, kind: str) -> Resource | None:
        """Any served version of a kind, as owner references are resolved."""
        return next((item for item in self._served.values() if (item.group, item.kind) == (group, kind)), None)

    def storages(self) -> Iterator[Resource]:
        """One resource for each (group, plural)."""
        seen: set[str] = set()
        for resource in self._served.values():
            if resource.storage not in seen:
                seen.add(resource.storage)
                yield resource

    def groups(self) -> dict[str, dict[str, list[Resource]]]:
        """Group, then version, then resources, each in the order of addition."""
        found: dict[str, dict[str, list[Resource]]] = {}
        for resource in self._served.values():
            found.setdefault(resource.group, {}).setdefault(resource.version, []).append(resource)
        return found
