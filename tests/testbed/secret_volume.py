"""A Secret's volume as a kubelet keeps it, for the test bed has no kubelet: kwok runs no containers.

The layout and the order of steps are those of Kubernetes' `AtomicWriter` (pkg/volume/util/atomic_writer.go): all keys
are written into a new directory, the link `..data` is swapped to it by one rename, then the links of the keys follow
it, and the old directory goes. What the real one adds is that it takes up to two minutes to notice.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import orjson

from shared.model.identities import Resource
from shared.ports.cluster_api import ChangeType, ClusterApi, Selection

SECRETS: Final = Resource("", "v1", "secrets")
_DATA: Final = "..data"


class SecretVolume:
    """Of what else is in the directory nothing is touched, if it has other names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, payload: Mapping[str, bytes]) -> None:
        """Brings it to these keys; if it has them already it is left as it is."""
        data = self._directory / _DATA
        old = data.resolve() if data.is_symlink() else None
        if old is not None and {path.name: path.read_bytes() for path in old.iterdir()} == payload:
            return
        new = Path(tempfile.mkdtemp(prefix="..", dir=self._directory))
        for name, value in payload.items():
            (new / name).write_bytes(value)
        swapped = self._directory / "..data_tmp"
        swapped.symlink_to(new.name)
        swapped.rename(data)
        before = {path.name for path in old.iterdir()} if old is not None else set()
        for name in payload.keys() - before:
            (self._directory / name).symlink_to(Path(_DATA) / name)
        for name in before - payload.keys():
            (self._directory / name).unlink()
        if old is not None:
            shutil.rmtree(old)

    @asynccontextmanager
    async def following(self, api: ClusterApi, namespace: str, name: str) -> AsyncIterator[None]:
        """As a mount of this Secret with `optional: true`, as long as it is entered."""
        task = asyncio.create_task(self._follow(api, namespace, name))
        try:
            yield
        finally:
            task.cancel()
            # What ended it before is why nothing came any more.
            with suppress(asyncio.CancelledError):
                await task

    async def _follow(self, api: ClusterApi, namespace: str, name: str) -> None:
        found = api.list_watch_batches(SECRETS, Selection(namespace, fields=f"metadata.name={name}"))
        async with aclosing(found) as batches:
            async for changes in batches:
                for change in changes:
                    if change.type in {ChangeType.LISTED, ChangeType.ADDED, ChangeType.MODIFIED}:
                        data = orjson.loads(change.raw).get("data") or {}
                        self.write({key: base64.b64decode(value) for key, value in data.items()})
                    elif change.type is ChangeType.DELETED:
                        self.write({})
