"""Connections to management clusters: the hub's own, and those of which somebody put a kubeconfig beside the hub.

Whoever may declare a Cluster can so make the hub call only where its operator put a key.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from shared.adapters.kubernetes import KubernetesApi
from shared.ports.cluster_api import ApiError, ClusterApi


class ManagementClusters:
    """`own` is the hub cluster's, and is not closed here; each of the others is opened once and closed by `close`."""

    def __init__(self, own: ClusterApi, directory: Path | None, deadline_s: float) -> None:
        self._own = own
        self._directory = directory
        self._deadline_s = deadline_s
        self._open: dict[str, KubernetesApi] = {}
        self._lock = asyncio.Lock()

    async def connect(self, name: str) -> ClusterApi:
        """By a name, which is a DNS label; empty for the hub's own. Raises ApiError."""
        if not name:
            return self._own
        async with self._lock:
            if name not in self._open:
                self._open[name] = await KubernetesApi.from_kubeconfig(self._file(name), deadline_s=self._deadline_s)
            return self._open[name]

    def _file(self, name: str) -> Path:
        if self._directory is None:
            message = "no management clusters are known here: set FLOTILLA_HUB_MANAGEMENT_DIR"
            raise ApiError(404, "NotFound", message)
        path = self._directory / name
        if not path.is_file():
            raise ApiError(404, "NotFound", f"FLOTILLA_HUB_MANAGEMENT_DIR has no kubeconfig {name}")
        return path

    async def close(self) -> None:
        for api in self._open.values():
            await api.close()
        self._open.clear()
