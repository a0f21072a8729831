"""Which clusters this process watches, and how to reach each: one, or a directory of kubeconfigs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from services.watcher.settings import WatcherSettings
from shared.adapters.kubernetes import KubernetesApi, ListWatchPolicy
from shared.model.names import dns_subdomain_error
from shared.observability.logs import get_logger
from shared.ports.cluster_api import ClusterApi

log = get_logger(__name__)

# Raises ApiError while the configuration is unreadable: it is tried again.
Connect = Callable[[], Awaitable[ClusterApi]]

POLICY: Final = ListWatchPolicy(without_managed_fields=True)
_SUFFIXES: Final = frozenset({"", ".yaml", ".yml", ".kubeconfig", ".conf", ".config"})
# A file that is being rewritten may be away for a moment; a cluster does not leave the fleet over that.
_MISSES: Final = 3


class ClusterSource(Protocol):
    async def scan(self) -> Mapping[str, Connect]:
        """The clusters that there are now, by name."""


class OneCluster:
    """One cluster, by a kubeconfig or the pod's service account."""

    def __init__(self, name: str, kubeconfig: Path | None) -> None:
        async def connect() -> ClusterApi:
            if kubeconfig is None:
                return await KubernetesApi.in_cluster(policy=POLICY)
            return await KubernetesApi.from_kubeconfig(kubeconfig, policy=POLICY)

        self._clusters = {name: connect}

    async def scan(self) -> Mapping[str, Connect]:
        return self._clusters


class KubeconfigDirectory:
    """A directory of kubeconfigs that appear and vanish. A cluster's name is its file's stem."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._clusters: dict[str, Connect] = {}
        self._misses: dict[str, int] = {}
        self._refused: set[str] = set()

    async def scan(self) -> Mapping[str, Connect]:
        found = await asyncio.to_thread(self._list)
        for name, path in found.items():
            self._misses.pop(name, None)
            if name not in self._clusters:
                self._clusters[name] = _connector(path)
        for name in self._clusters.keys() - found.keys():
            self._misses[name] = self._misses.get(name, 0) + 1
            if self._misses[name] >= _MISSES:
                del self._clusters[name], self._misses[name]
        return dict(self._clusters)

    def _list(self) -> dict[str, Path]:
        try:
            entries = sorted(self._path.iterdir())
        except OSError as error:
            # An unreadable directory says nothing about the clusters: those that were there stay.
            log.warning("the directory of kubeconfigs cannot be read", path=str(self._path), error=str(error))
            return dict.fromkeys(self._clusters, self._path)
        found: dict[str, Path] = {}
        for entry in entries:
            if entry.name.startswith(".") or entry.suffix not in _SUFFIXES or not entry.is_file():
                continue
            problem = dns_subdomain_error(entry.stem)
            if problem:
                self._refuse(entry.name, problem)
            else:
                found.setdefault(entry.stem, entry)
        return found

    def _refuse(self, name: str, error: str) -> None:
        if name not in self._refused:
            self._refused.add(name)
            log.warning("not a cluster's name", file=name, error=error)


def _connector(path: Path) -> Connect:
    async def connect() -> ClusterApi:
        return await KubernetesApi.from_kubeconfig(path, policy=POLICY)

    return connect


def cluster_source(settings: WatcherSettings) -> ClusterSource:
    if settings.watcher_kubeconfig_dir is not None:
        return KubeconfigDirectory(settings.watcher_kubeconfig_dir)
    return OneCluster(settings.watcher_cluster, settings.watcher_kubeconfig)
