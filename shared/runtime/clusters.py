"""Which clusters an agent's process serves, and how to reach each: one, or a directory of kubeconfigs.

A directory is looked at again and again, as kubeconfigs come and go. What is inside a kubeconfig is the adapter's
business, which reads it again when it changes. A file's name names its cluster, and must be a DNS label as the names of
the hub's Cluster objects are; a file with another name is refused and the others are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from shared.adapters.kubernetes import KubernetesApi, ListWatchPolicy
from shared.model.names import dns_label_error
from shared.observability.logs import get_logger
from shared.ports.cluster_api import ClusterApi

log = get_logger(__name__)

# Raises ApiError while the configuration cannot be read: it is tried again.
Connect = Callable[[], Awaitable[ClusterApi]]

DEADLINE_S: Final = 30.0
_SUFFIXES: Final = frozenset({"", ".yaml", ".yml", ".json", ".kubeconfig", ".conf", ".config"})
# A file that is being replaced may be away at one look: a cluster leaves after this many.
_LOOKS: Final = 3


class ClusterSource(Protocol):
    async def scan(self) -> Mapping[str, Connect]:
        """The clusters that there are now, by name."""


def cluster_source(
    cluster: str,
    kubeconfig: Path | None,
    directory: Path | None,
    *,
    deadline_s: float = DEADLINE_S,
    policy: ListWatchPolicy | None = None,
) -> ClusterSource:
    """What an agent's settings name: a directory of kubeconfigs, or else the one cluster.

    `deadline_s` is that of one call to an API server, `policy` how lists and watches are done.
    """
    if directory is not None:
        return KubeconfigDirectory(directory, deadline_s=deadline_s, policy=policy)
    return OneCluster(cluster, kubeconfig, deadline_s=deadline_s, policy=policy)


class OneCluster:
    """One cluster, by a kubeconfig or, without one, by the service account of this process's pod."""

    def __init__(
        self,
        name: str,
        kubeconfig: Path | None,
        *,
        deadline_s: float = DEADLINE_S,
        policy: ListWatchPolicy | None = None,
    ) -> None:
        self._clusters = {name: _connector(kubeconfig, deadline_s, policy)}

    async def scan(self) -> Mapping[str, Connect]:
        return self._clusters


class KubeconfigDirectory:
    """The kubeconfigs of a directory; each file's name, without its suffix, is a cluster's name."""

    def __init__(self, path: Path, *, deadline_s: float = DEADLINE_S, policy: ListWatchPolicy | None = None) -> None:
        self._path = path
        self._deadline_s = deadline_s
        self._policy = policy
        self._clusters: dict[str, Connect] = {}
        self._absent: dict[str, int] = {}
        self._warned: set[str] = set()

    async def scan(self) -> Mapping[str, Connect]:
        try:
            files = await asyncio.to_thread(self._files)
        except OSError as error:
            # A directory that cannot be read says nothing of its clusters: those that were there stay.
            self._warn(str(self._path), "the directory of kubeconfigs cannot be read", str(error))
            return dict(self._clusters)
        found = self._named(files)
        for name, path in found.items():
            self._clusters.setdefault(name, _connector(path, self._deadline_s, self._policy))
        self._absent = {name: self._absent.get(name, 0) + 1 for name in self._clusters if name not in found}
        for name, looks in self._absent.items():
            if looks >= _LOOKS:
                del self._clusters[name]
        return dict(self._clusters)

    def _files(self) -> list[Path]:
        return sorted(path for path in self._path.iterdir() if path.is_file())

    def _named(self, files: list[Path]) -> dict[str, Path]:
        named: dict[str, Path] = {}
        for path in files:
            if path.name.startswith(".") or path.suffix not in _SUFFIXES:
                continue
            if error := dns_label_error(path.stem):
                self._warn(path.name, "a file's name is no cluster's name", f"{path.stem[:80]!r} {error}")
            elif named.setdefault(path.stem, path) != path:
                self._warn(path.name, "two files have the same cluster's name", f"{named[path.stem].name} is used")
        return named

    def _warn(self, what: str, message: str, error: str) -> None:
        """Once for each file, not at every look."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning(message, file=what, error=error)


def _connector(path: Path | None, deadline_s: float, policy: ListWatchPolicy | None) -> Connect:
    async def connect() -> ClusterApi:
        if path is None:
            return await KubernetesApi.in_cluster(deadline_s=deadline_s, policy=policy)
        return await KubernetesApi.from_kubeconfig(path, deadline_s=deadline_s, policy=policy)

    return connect
