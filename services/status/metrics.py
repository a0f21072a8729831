"""What an operator can see of the status service."""

from __future__ import annotations

from typing import Final

from shared.observability.metrics import Counter, Gauge, Histogram
from shared.runtime.dead_letters import begin_at_zero

_LATENCY = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)

HOP_SECONDS: Final = Histogram(
    "flotilla_status_hop_seconds",
    "From one hop of a workload's generation to the next: requested, decided, applied, running, status published",
    ("hop",),
    buckets=_LATENCY,
)
WORKLOADS: Final = Gauge("flotilla_status_workloads", "workloads by phase", ("phase",))
STALE_WORKLOADS: Final = Gauge(
    "flotilla_status_stale_workloads", "workloads whose counts come in part from clusters that are not heard"
)
SILENT_CLUSTERS: Final = Gauge("flotilla_status_silent_clusters", "clusters whose watcher is silent")
HEARTBEAT_AGE_SECONDS: Final = Gauge("flotilla_status_heartbeat_age_seconds", "since the last heartbeat", ("cluster",))
DRIFTING: Final = Gauge(
    "flotilla_status_drifting_workloads", "workloads that a cluster does not hold as was asked", ("cluster", "drift")
)
COMPARISONS: Final = Counter(
    "flotilla_status_comparisons_total", "digests of watchers that were compared with what was read", ("result",)
)
UNLIKE: Final = Gauge(
    "flotilla_status_unlike_resources", "resources of which something else was read than was published", ("cluster",)
)
REPAIRED: Final = Counter(
    "flotilla_status_repaired_objects_total", "objects that were held otherwise than the log has them", ("cluster",)
)
LAG: Final = Gauge("flotilla_status_lag_records", "records that were not read yet", ("topic",))
RECORDS: Final = Counter("flotilla_status_records_total", "records read", ("topic",))
DEAD_LETTERS: Final = Counter("flotilla_status_dead_letters_total", "records refused", ("topic",))
begin_at_zero(DEAD_LETTERS, "status")
STATUSES: Final = Counter("flotilla_status_statuses_total", "statuses published")
PHASE_CHANGES: Final = Counter("flotilla_status_phase_changes_total", "phase changes published", ("phase",))
TOO_LARGE: Final = Counter(
    "flotilla_status_too_large_records_total", "records larger than their topic allows, not published"
)
BATCH_SECONDS: Final = Histogram(
    "flotilla_status_batch_seconds",
    "one batch, from its records to their statuses being acknowledged",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
RESTARTS: Final = Counter("flotilla_status_restarts_total", "times the state was built anew from the log")
EARLY_REPORTS: Final = Gauge("flotilla_status_early_reports", "reports whose placement was not seen yet")
DROPPED_REPORTS: Final = Counter(
    "flotilla_status_dropped_reports_total", "reports that were given up: no placement came"
)
READ_MODEL_PENDING: Final = Gauge("flotilla_status_read_model_pending", "items that Redis does not have yet")
READ_MODEL_FAILURES: Final = Counter("flotilla_status_read_model_failures_total", "writes to Redis that failed")
READ_MODEL_REBUILDS: Final = Counter("flotilla_status_read_model_rebuilds_total", "times Redis was filled anew")
STANDING_BY: Final = Gauge("flotilla_status_standing_by", "1 while another instance tells the statuses")
