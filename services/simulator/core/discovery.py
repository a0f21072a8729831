"""What a cluster says it serves: legacy and aggregated discovery.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api.
"""

from __future__ import annotations

from itertools import starmap

from services.simulator.core.errors import no_such_path
from services.simulator.core.meta import Json
from services.simulator.core.resources import Resource, ResourceRegistry

_READ_WRITE = ("get", "patch", "update")


def _entry(resource: Resource) -> Json:
    entry: Json = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return entry


def _subresources(resource: Resource) -> list[Json]:
    entries: list[Json] = []
    base = {"singularName": "", "namespaced": resource.namespaced}
    if resource.status:
        entries.append({"name": f"{resource.plural}/status", **base, "kind": resource.kind, "verbs": list(_READ_WRITE)})
    if resource.scale is not None:
        entries.append(
            {
                "name": f"{resource.plural}/scale",
                **base,
                "group": "autoscaling",
                "version": "v1",
                "kind": "Scale",
                "verbs": list(_READ_WRITE),
            }
        )
    for name, group, version, kind in resource.subresources:
        entry: Json = {"name": f"{resource.plural}/{name}", **base, "kind": kind, "verbs": ["create"]}
        if group:
            entry |= {"group": group, "version": version}
        entries.append(entry)
    return entries


def resource_list(registry: ResourceRegistry, group: str, version: str) -> Json:
    resources = registry.groups().get(group, {}).get(version)
    if resources is None:
        raise no_such_path()
    entries: list[Json] = []
    for resource in sorted(resources, key=lambda item: item.plural):
        entries += [_entry(resource), *_subresources(resource)]
    if not group:
        return {"kind": "APIResourceList", "groupVersion": version, "resources": entries}
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}",
        "resources": entries,
    }


def _group(name: str, versions: dict[str, list[Resource]]) -> Json:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def group_list(registry: ResourceRegistry) -> Json:
    groups = [_group(name, versions) for name, versions in registry.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: ResourceRegistry, name: str) -> Json:
    versions = registry.groups().get(name)
    if not name or versions is None:
        raise no_such_path()
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def core_versions(host: str) -> Json:
    address = {"clientCIDR": "0.0.0.0/0", "serverAddress": host}
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]}


def _aggregated_resource(resource: Resource) -> Json:
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    entry: Json = {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    subresources = [
        {
            "subresource": found["name"].partition("/")[2],
            "responseKind": {
                "group": found.get("group", resource.group),
                "version": found.get("version", resource.version),
                "kind": found["kind"],
            },
            "verbs": found["verbs"],
        }
        for found in _subresources(resource)
    ]
    return entry | ({"subresources": subresources} if subresources else {})


def aggregated(registry: ResourceRegistry, version: str, *, core: bool) -> Json:
    """`APIGroupDiscoveryList` of `apidiscovery.k8s.io/<version>` for /api (core) or /apis."""

    def describe(name: str, versions: dict[str, list[Resource]]) -> Json:
        return {
            "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
            "versions": [
                {
                    "version": number,
                    "resources": [
                        _aggregated_resource(item) for item in sorted(resources, key=lambda entry: entry.plural)
                    ],
                    "freshness": "Current",
                }
                for number, resources in versions.items()
            ],
        }

    chosen = {name: versions for name, versions in registry.groups().items() if (name == "") is core}
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": list(starmap(describe, chosen.items())),
    }
