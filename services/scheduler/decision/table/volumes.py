"""Which persistent volume claims are in which cluster, and which nodes reach the volumes that they are bound to.

Source: k8s.io/kubernetes pkg/scheduler/framework/plugins/volumebinding, as far as bound claims go: a claim without a
volume binds to one that its pod's node reaches, and restricts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.model.selectors import NodeSelector


class VolumeTable:
    """`version` rises with every change that may matter to a pod. A claim's name is `namespace/name`."""

    def __init__(self) -> None:
        self.version = 0
        # The volume of a claim by cluster, empty while it has none.
        self._claims: dict[str, dict[int, str]] = {}
        # The nodes that reach a volume, where not all do.
        self._selectors: dict[tuple[int, str], NodeSelector] = {}

    def put_claim(self, cluster: int, claim: str, volume: str | None) -> None:
        """None where there is no such claim any more."""
        where = self._claims.get(claim, {})
        if where.get(cluster) == volume:
            return
        self.version += 1
        if volume is not None:
            self._claims.setdefault(claim, {})[cluster] = volume
        else:
            del where[cluster]
            if not where:
                del self._claims[claim]

    def put_volume(self, cluster: int, name: str, selector: NodeSelector | None) -> None:
        """None where every node reaches it, or it is no more."""
        if self._selectors.get((cluster, name)) == selector:
            return
        self.version += 1
        if selector is not None:
            self._selectors[cluster, name] = selector
        else:
            del self._selectors[cluster, name]

    def clusters_of(self, claim: str) -> Mapping[int, NodeSelector | None]:
        """By cluster that has the claim the nodes that reach its volume, None where all do."""
        where = self._claims.get(claim, {})
        return {cluster: self._selectors.get((cluster, volume)) for cluster, volume in where.items()}
