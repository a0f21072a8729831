"""What people declared of the clusters: `fleet.clusters`."""

from __future__ import annotations

from typing import Final

from services.watcher.followed import Followed
from shared.events.topics import CLUSTERS
from shared.events.v1.clusters import ClusterDeclared
from shared.model.identities import Resource
from shared.observability.logs import get_logger
from shared.ports.event_log import EventLog

log = get_logger(__name__)

_NOTHING: Final = ClusterDeclared(name="-")


class Declarations(Followed[ClusterDeclared]):
    def __init__(self, log: EventLog) -> None:
        super().__init__(log, CLUSTERS, ClusterDeclared, "declarations")

    def labels(self, cluster: str) -> dict[str, str]:
        return dict(self.known.get(cluster, _NOTHING).labels)

    def resources(self, cluster: str) -> frozenset[Resource]:
        """What is to be watched beside the settings' resources. What does not parse is left out, with a warning."""
        found = set()
        for text in self.known.get(cluster, _NOTHING).watched_resources:
            try:
                found.add(Resource.parse(text))
            except ValueError as error:
                log.warning("declared resource left out", cluster=cluster, error=str(error))
        return frozenset(found)
