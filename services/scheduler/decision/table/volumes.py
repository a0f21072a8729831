"""Which persistent volume claims are in which cluster, and which nodes reach the volumes that they are bound to.

Source: k8s.io/kubernetes pkg/scheduler/framework/plugins/volumebinding. A claim without a volume gets one where its pod
runs, in what its class allows. Volumes that exist and are bound to nobody are not matched with claims: where a class
has no provisioner, only the cluster knows where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shared.model.selectors import NodeSelector


class Claimed(NamedTuple):
    """What a claim is bound to, empty while it has no volume, and the class that would provide one."""

    volume: str
    storage_class: str = ""


class Reach(NamedTuple):
    """The nodes that reach what a claim has, or may get; None where all do."""

    bound: bool
    selector: NodeSelector | None


class VolumeTable:
    """`version` rises with every change that may matter to a pod. A claim's name is `namespace/name`."""

    def __init__(self) -> None:
        self.version = 0
        # By cluster that has it.
        self._claims: dict[str, dict[int, Claimed]] = {}
        # The nodes that reach a volume, or what a class provides, where not all do.
        self._volumes: dict[tuple[int, str], NodeSelector] = {}
        self._classes: dict[tuple[int, str], NodeSelector] = {}

    def put_claim(self, cluster: int, claim: str, claimed: Claimed | None) -> None:
        """None where there is no such claim any more."""
        where = self._claims.get(claim, {})
        if where.get(cluster) == claimed:
            return
        self.version += 1
        if claimed is not None:
            self._claims.setdefault(claim, {})[cluster] = claimed
        else:
            del where[cluster]
            if not where:
                del self._claims[claim]

    def put_volume(self, cluster: int, name: str, selector: NodeSelector | None) -> None:
        """None where every node reaches it, or it is no more."""
        self._put(self._volumes, (cluster, name), selector)

    def put_class(self, cluster: int, name: str, selector: NodeSelector | None) -> None:
        """Where it may provide volumes; None where that is anywhere, or it is no more."""
        self._put(self._classes, (cluster, name), selector)

    def clusters_of(self, claim: str) -> Mapping[int, Reach]:
        """By cluster that has the claim."""
        return {cluster: self._reach(cluster, claimed) for cluster, claimed in self._claims.get(claim, {}).items()}

    def _reach(self, cluster: int, claimed: Claimed) -> Reach:
        if claimed.volume:
            return Reach(bound=True, selector=self._volumes.get((cluster, claimed.volume)))
        return Reach(bound=False, selector=self._classes.get((cluster, claimed.storage_class)))

    def _put(
        self, selectors: dict[tuple[int, str], NodeSelector], key: tuple[int, str], selector: NodeSelector | None
    ) -> None:
        if selectors.get(key) == selector:
            return
        self.version += 1
        if selector is not None:
            selectors[key] = selector
        else:
            del selectors[key]
