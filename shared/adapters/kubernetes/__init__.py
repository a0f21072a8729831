"""The `ClusterApi` port over HTTP: kubernetes-asyncio for configuration and credentials, aiohttp for raw transport.

kubernetes-asyncio's typed models and its `Watch` are not used: they cost a hundred times what the few needed fields
cost, and the watch loses its place on 410.
"""

from shared.adapters.kubernetes.client import KubernetesApi
from shared.adapters.kubernetes.credentials import CredentialsError
from shared.adapters.kubernetes.driver import ListWatchPolicy

__all__ = ["CredentialsError", "KubernetesApi", "ListWatchPolicy"]
