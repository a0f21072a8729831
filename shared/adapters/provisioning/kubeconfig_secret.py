"""The Secret in which agents find the kubeconfigs of clusters that were made, as keys: pods mount it as a directory.

It is made where it is missing. A write changes one key, and only in the very version that was looked at: what others
have put there, or put there meanwhile, is never replaced or removed.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Final

from shared.adapters.provisioning.kubeconfigs import check_owner, file_name, is_of, marked
from shared.model.identities import MANAGED_BY, MANAGED_BY_LABEL, Resource
from shared.model.provisioning import NO_ROOM
from shared.ports.cluster_api import ApiError, ApplyOptions, ClusterApi, Object
from shared.ports.provisioning import KubeconfigError

MANAGER: Final = "flotilla-hub-kubeconfigs"
# What all values of a Secret may have together (Kubernetes: `MaxSecretSize`, pkg/apis/core/types.go).
LIMIT_BYTES: Final = 1024 * 1024
_SECRETS: Final = Resource("", "v1", "secrets")
_NOT_FOUND: Final = 404


class KubeconfigSecret:
    """In a namespace that is there. Raises ApiError too: 409 where another wrote it meanwhile, to be done again."""

    def __init__(self, api: ClusterApi, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        # Else clusters that come together would be conflicts for one another.
        self._lock = asyncio.Lock()

    async def write(self, name: str, owner: str, document: bytes) -> bool:
        """Whether the key changed. Raises KubeconfigError, ApiError."""
        key, text = file_name(name), marked(name, owner, document)
        async with self._lock:
            secret = await self._find() or await self._make()
            present = _text(secret, key)
            check_owner(f"{key} in {self}", present, owner)
            if present == text:
                return False
            value = text.encode()
            self._check_room(secret, key, len(value))
            await self._patch(secret, key, base64.b64encode(value).decode())
        return True

    async def remove(self, name: str, owner: str) -> bool:
        """Whether there was one of this Cluster. Raises ApiError."""
        key = file_name(name)
        async with self._lock:
            secret = await self._find()
            if secret is None or not is_of(_text(secret, key), owner):
                return False
            await self._patch(secret, key, None)
        return True

    def __str__(self) -> str:
        return f"Secret {self._namespace}/{self._name}"

    async def _find(self) -> Object | None:
        try:
            return await self._api.get(_SECRETS, self._namespace, self._name)
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise
        return None

    async def _make(self) -> Object:
        """Empty: if another has made it meanwhile, it stays as that one has it."""
        body: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            },
            "type": "Opaque",
        }
        return await self._api.apply(_SECRETS, self._namespace, self._name, body, ApplyOptions(MANAGER, force=False))

    async def _patch(self, secret: Object, key: str, value: str | None) -> None:
        body = {"metadata": {"resourceVersion": secret["metadata"]["resourceVersion"]}, "data": {key: value}}
        await self._api.merge_patch(_SECRETS, self._namespace, self._name, body)

    def _check_room(self, secret: Object, key: str, size: int) -> None:
        others = sum(len(base64.b64decode(value)) for name, value in _data(secret).items() if name != key)
        if others + size > LIMIT_BYTES:
            message = (
                f"{self} has {others} bytes of {LIMIT_BYTES} without {key}, which needs {size}: delete Clusters that "
                "nobody needs, or install the chart flotilla-agent in this one"
            )
            raise KubeconfigError(NO_ROOM, message)


def _data(secret: Object) -> dict[str, str]:
    return secret.get("data") or {}


def _text(secret: Object, key: str) -> str | None:
    value = _data(secret).get(key)
    return base64.b64decode(value).decode(errors="replace") if value is not None else None
