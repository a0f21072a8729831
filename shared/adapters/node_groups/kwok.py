"""Nodes that kwok plays: a Node object is all that there is of one, so the API server is the provider.

kwok gives a node a kubelet by the label or the annotation `kwok.x-k8s.io/node: fake`, as it is configured. The
simulator gives one to every node.
"""

from __future__ import annotations

import ipaddress
import secrets
import zlib
from collections.abc import Sequence
from typing import Final

from shared.adapters.node_groups.api_errors import as_provider_error
from shared.events.v1.clusters import NodeTemplate
from shared.model.identities import NODE_GROUP_LABEL, Resource
from shared.model.node_groups import GroupState, NodeRef
from shared.ports.cluster_api import ClusterApi, Object, Selection

KWOK: Final = "kwok.x-k8s.io/node"
_NODES: Final = Resource("", "v1", "nodes")
_SUFFIX_BYTES: Final = 4
_ADDRESSES: Final = ipaddress.ip_network("172.16.0.0/12")


class KwokProvider:
    def __init__(self, api: ClusterApi, group: str, template: NodeTemplate) -> None:
        self._api = api
        self._group = group
        self._template = template

    async def state(self, nodes: Sequence[NodeRef]) -> GroupState:
        del nodes
        names = await self._names()
        return GroupState(len(names), dict.fromkeys(names, False))

    async def resize(self, size: int) -> None:
        """Makes what is missing. What is too much stays until it is named: there is nothing that has not come."""
        missing = size - len(await self._names())
        for _ in range(missing):
            with as_provider_error():
                await self._api.create(_NODES, "", self._manifest())

    async def remove(self, nodes: Sequence[NodeRef]) -> None:
        for node in nodes:
            with as_provider_error():
                await self._api.delete(_NODES, "", node.name)

    async def _names(self) -> list[str]:
        with as_provider_error():
            found = await self._api.list(_NODES, Selection(labels=f"{NODE_GROUP_LABEL}={self._group}"))
        return [node["metadata"]["name"] for node in found if "deletionTimestamp" not in node["metadata"]]

    def _manifest(self) -> Object:
        """With a name that no node had before: pods of one that is gone must not be taken for its own."""
        name = f"{self._group}-{secrets.token_hex(_SUFFIX_BYTES)}"
        template = self._template
        address = str(_ADDRESSES[zlib.crc32(name.encode()) % _ADDRESSES.num_addresses])
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/os": "linux",
                    **template.labels,
                    "kubernetes.io/hostname": name,
                    KWOK: "fake",
                    NODE_GROUP_LABEL: self._group,
                },
                "annotations": {KWOK: "fake"},
            },
            "spec": {"taints": [taint.model_dump(by_alias=True, exclude_none=True) for taint in template.taints]},
            "status": {
                "capacity": {**template.allocatable},
                "allocatable": {**template.allocatable},
                "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            },
        }
