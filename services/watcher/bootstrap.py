"""The only place where the watcher's settings become adapters."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

from services.watcher.auditor import AuditPolicy
from services.watcher.declarations import Declarations
from services.watcher.measuring import Sampling
from services.watcher.published import PublishedIndex
from services.watcher.queries import load_queries
from services.watcher.readback import Discrepancies
from services.watcher.session import ClusterSession, SessionConfig, Surroundings
from services.watcher.settings import WatcherSettings, parse_labels
from services.watcher.shell import WatcherService
from shared.adapters.clock import SystemClock
from shared.adapters.kafka.partitioner import partition_for
from shared.adapters.kubernetes import ListWatchPolicy
from shared.events.topics import CLUSTERS, DISCREPANCIES, METRICS, OBJECTS, dead_letter_topic
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog
from shared.runtime.clusters import ClusterSource, Connect, cluster_source
from shared.runtime.connections import open_log

TOPICS: Final = (OBJECTS, METRICS, CLUSTERS, DISCREPANCIES, dead_letter_topic(CLUSTERS))
# The contract of `fleet.objects`: an object is without `metadata.managedFields`.
POLICY: Final = ListWatchPolicy(without_managed_fields=True)


async def build(settings: WatcherSettings, stack: AsyncExitStack) -> WatcherService:
    log = await open_log(settings, "watcher", stack)
    # An agent may have no right to create topics: it does not ask for those that are there.
    await log.ensure_topics([topic for topic in TOPICS if not await log.partitions(topic.name)])
    return assemble(settings, log)


def assemble(
    settings: WatcherSettings, log: EventLog, *, clock: Clock | None = None, source: ClusterSource | None = None
) -> WatcherService:
    """The service on any log, its topics being there; on the system's clock and the settings' clusters unless told."""
    declarations = Declarations(log)
    index = PublishedIndex(log, partition_for)
    discrepancies = Discrepancies(log)
    sampling = Sampling(log)
    surroundings = Surroundings(log, index, declarations, discrepancies, sampling, clock or SystemClock())
    config = SessionConfig(
        resources=settings.resources(),
        labels=parse_labels(settings.watcher_labels),
        heartbeat_s=settings.watcher_heartbeat_s,
        probe_timeout_s=settings.watcher_probe_timeout_s,
        metrics_s=settings.watcher_metrics_s,
        queries=load_queries(settings.watcher_queries),
        audit=AuditPolicy(settings.watcher_audit_s, settings.watcher_audit_rate),
    )

    def open_session(cluster: str, connect: Connect) -> ClusterSession:
        return ClusterSession(cluster, connect, config, surroundings)

    source = source or cluster_source(
        settings.watcher_cluster, settings.watcher_kubeconfig, settings.watcher_kubeconfig_dir, policy=POLICY
    )
    followed = (declarations, sampling) if settings.watcher_metrics_s > 0 else (declarations,)
    return WatcherService(source, open_session, followed, discrepancies, index, settings.watcher_scan_s)
