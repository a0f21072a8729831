"""`KubernetesApi`: the `ClusterApi` port on a real API server, or on the simulator, which is to be the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

import orjson

from shared.adapters.kubernetes.credentials import in_cluster_credentials, kubeconfig_credentials
from shared.adapters.kubernetes.decoding import MalformedError, decode_page
from shared.adapters.kubernetes.discovery import Discovery
from shared.adapters.kubernetes.driver import GONE, ListWatchPolicy
from shared.adapters.kubernetes.reflector import list_watch
from shared.adapters.kubernetes.transport import JSON, ApiTransport, Transport
from shared.model.identities import Resource
from shared.ports.cluster_api import EVERYTHING, ApiError, ApplyOptions, Change, Object, ResourceInfo, Selection

DEADLINE_S: Final = 30.0
# Server-side apply takes YAML, of which JSON is a part.
APPLY_PATCH: Final = "application/apply-patch+yaml"
MERGE_PATCH: Final = "application/merge-patch+json"
_NOT_FOUND: Final = 404


class KubernetesApi:
    """A connection to one API server, which `close` ends. Every call raises ApiError and nothing else."""

    def __init__(
        self, transport: ApiTransport, *, deadline_s: float = DEADLINE_S, policy: ListWatchPolicy | None = None
    ) -> None:
        self._transport = transport
        self._deadline_s = deadline_s
        self._policy = policy or ListWatchPolicy()
        self._discovery = Discovery(self._get_bytes)

    @classmethod
    async def from_kubeconfig(
        cls,
        path: str | Path,
        context: str | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        policy: ListWatchPolicy | None = None,
    ) -> KubernetesApi:
        """By a kubeconfig file, in its current context or another. Raises CredentialsError (an ApiError of code 0)."""
        return cls(Transport(await kubeconfig_credentials(Path(path), context)), deadline_s=deadline_s, policy=policy)

    @classmethod
    async def in_cluster(
        cls, *, deadline_s: float = DEADLINE_S, policy: ListWatchPolicy | None = None
    ) -> KubernetesApi:
        """By the service account of the pod that this process runs in. Raises CredentialsError."""
        return cls(Transport(await in_cluster_credentials()), deadline_s=deadline_s, policy=policy)

    @property
    def server(self) -> str:
        return self._transport.server

    async def close(self) -> None:
        await self._transport.close()

    # What the server is

    async def version(self) -> str:
        return str(_object(await self._get_bytes("/version")).get("gitVersion", ""))

    async def resource_info(self, api_version: str, kind: str) -> ResourceInfo:
        return await self._discovery.by_kind(api_version, kind)

    async def discover(self, resource: Resource) -> ResourceInfo | None:
        return await self._discovery.by_resource(resource)

    # Reading

    def list_watch_batches(
        self, resource: Resource, selection: Selection = EVERYTHING
    ) -> AsyncGenerator[Sequence[Change], None]:
        path = object_path(resource, selection.namespace)
        return list_watch(self._transport, path, selection, self._policy)

    async def list_watch(self, resource: Resource, selection: Selection = EVERYTHING) -> AsyncGenerator[Change, None]:
        async with aclosing(self.list_watch_batches(resource, selection)) as batches:
            async for changes in batches:
                for change in changes:
                    yield change

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return _object(await self._get_bytes(object_path(resource, namespace, name)))

    async def list(self, resource: Resource, selection: Selection = EVERYTHING) -> Sequence[Object]:
        try:
            return await self._list(resource, selection, paged=True)
        except ApiError as error:
            if error.code != GONE:
                raise
            # The continuation expired between two pages: in one piece it cannot.
            return await self._list(resource, selection, paged=False)

    async def read(self, path: str, query: Mapping[str, str]) -> Object:
        return _object(await self._transport.request("GET", path, query=query, deadline_s=self._deadline_s))

    async def _list(self, resource: Resource, selection: Selection, *, paged: bool) -> Sequence[Object]:
        path = object_path(resource, selection.namespace)
        selectors = {"labelSelector": selection.labels, "fieldSelector": selection.fields}
        query = {name: text for name, text in selectors.items() if text}
        if paged:
            query["limit"] = str(self._policy.page_size)
        found: list[Object] = []
        while True:
            body = await self._transport.request("GET", path, query=query, deadline_s=self._deadline_s)
            try:
                page = decode_page(body)
            except MalformedError as error:
                raise ApiError(0, "Malformed", f"GET {path}: {error}") from error
            found += [_object(item) for item in page.items]
            if not page.continue_token:
                return found
            query["continue"] = page.continue_token

    # Writing

    async def create(
        self, resource: Resource, namespace: str, body: Object, *, subresource: str = "", name: str = ""
    ) -> Object:
        return await self._send("POST", object_path(resource, namespace, name, subresource), body)

    async def apply(self, resource: Resource, namespace: str, name: str, body: Object, options: ApplyOptions) -> Object:
        query = {"fieldManager": options.manager, "force": "true" if options.force else "false", **options.query}
        if options.dry_run:
            query["dryRun"] = "All"
        path = object_path(resource, namespace, name, options.subresource)
        return await self._send("PATCH", path, body, query, APPLY_PATCH)

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, body: Object, *, subresource: str = ""
    ) -> Object:
        path = object_path(resource, namespace, name, subresource)
        return await self._send("PATCH", path, body, content_type=MERGE_PATCH)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        return await self._send("PUT", object_path(resource, namespace, name), body)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        propagation: str = "Background",
        grace_period_s: int | None = None,
    ) -> None:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        try:
            await self._send("DELETE", object_path(resource, namespace, name), options)
        except ApiError as error:
            if error.code != _NOT_FOUND:
                raise

    # Inside

    async def _get_bytes(self, path: str) -> bytes:
        return await self._transport.request("GET", path, deadline_s=self._deadline_s)

    async def _send(
        self,
        method: str,
        path: str,
        body: Object,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> Object:
        try:
            encoded = orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            raise ApiError(400, "BadRequest", f"{method} {path}: the body is not JSON: {error}") from error
        answer = await self._transport.request(
            method, path, query=query, body=encoded, content_type=content_type, deadline_s=self._deadline_s
        )
        return _object(answer)


def object_path(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The path of a resource, an object or a subresource; without a namespace, of all or of what has none."""
    parts = [resource.path]
    if namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(resource.plural)
    if name:
        parts.append(quote(name, safe=""))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def _object(body: bytes) -> Object:
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(0, "Malformed", f"the answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(0, "Malformed", f"the answer is no object but {type(value).__name__}")
    return cast("Object", value)
