"""The read model has what the log has: every status that stands, and every cluster as it is heard."""

from __future__ import annotations

from collections.abc import Iterator

from shared.events.registry import decode
from shared.events.topics import STATUS
from shared.events.v1.read_model import CLUSTERS_TABLE, WORKLOADS_TABLE, ClusterView
from tests.simulation.checker.evidence import Evidence, Violation


def check(evidence: Evidence) -> Iterator[Violation]:
    said = {key: record.value for key, record in evidence.latest(STATUS.name).items()}
    rows = evidence.tables.get(WORKLOADS_TABLE, {})
    for key in sorted(said.keys() | rows.keys()):
        if said.get(key) != rows.get(key):
            what = "is not there" if key not in rows else "is there alone" if key not in said else "is another one"
            yield Violation("read model", key, f"the status {what}")
    views = evidence.tables.get(CLUSTERS_TABLE, {})
    for cluster in evidence.objects:
        view = decode(ClusterView, views[cluster]) if cluster in views else None
        if view is None or view.silent or not view.ready:
            yield Violation("read model", cluster, "the cluster is not there" if view is None else "is not ready")
