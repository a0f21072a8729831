"""Who makes whole clusters: applied again and again, asked again and again, deleted when nothing runs there."""

from __future__ import annotations

from typing import Protocol

from shared.events.v1.provisioning import ClusterApiProvision
from shared.model.provisioning import Standing


class KubeconfigError(Exception):
    """There is no kubeconfig, or none that agents are given. `reason` is one word; the message quotes nothing of it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ClusterProvisioner(Protocol):
    """Clusters by name. `owner` is the uid of the Cluster on the hub: what is not marked with it is left alone.

    Every call may be repeated, has a deadline, and raises ApiError.
    """

    async def apply(self, name: str, owner: str, wanted: ClusterApiProvision) -> Standing:
        """Brings it to what is wanted. `Stage.READY` means that its kubeconfig is worth asking for."""

    async def kubeconfig(self, name: str, wanted: ClusterApiProvision) -> bytes:
        """As it is written. Raises KubeconfigError."""

    async def delete(self, name: str, owner: str, wanted: ClusterApiProvision) -> Standing:
        """`Stage.ABSENT` when it is gone; until then to be asked again."""


class KubeconfigStore(Protocol):
    """Where agents find kubeconfigs, by the names of their clusters, which are DNS labels.

    What was not written for `owner` is left as it is. Every call may be repeated, and raises OSError or ApiError where
    the store does not answer.
    """

    async def write(self, name: str, owner: str, document: bytes) -> bool:
        """Whether something changed. Raises KubeconfigError."""

    async def remove(self, name: str, owner: str) -> bool:
        """Whether there was one."""
