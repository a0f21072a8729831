"""What an operator can see of the status service."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_LATENCY = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)

HOP_SECONDS: Final = Histogram(
    "flotilla_status_hop_seconds",
    "From one hop of a workload's generation to the next: requested, decided, applied, running, status published",
    ("hop",),
    buckets=_LATENCY,
)
WORKLOADS: Final = Gauge("flotilla_status_workloads", "workloads by phase", ("phase",))
LAG: Final = Gauge("flotilla_status_lag_records", "records that were not read yet", ("topic",))
RECORDS: Final = Counter("flotilla_status_records_total", "records read", ("topic",))
DEAD_LETTERS: Final = Counter("flotilla_status_dead_letters_total", "records refused", ("topic",))
STATUSES: Final = Counter("flotilla_status_statuses_total", "statuses published")
PHASE_CHANGES: Final = Counter("flotilla_status_phase_changes_total", "phase changes published", ("phase",))
TOO_LARGE: Final = Counter("flotilla_status_too_large_total", "records larger than their topic allows, not published")
BATCH_SECONDS: Final = Histogram(
    "flotilla_status_batch_seconds",
    "one batch, from its records to their statuses being acknowledged",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
RESTARTS: Final = Counter("flotilla_status_restarts_total", "times the state was built anew from the log")
EARLY_REPORTS: Final = Gauge("flotilla_status_early_reports", "reports whose placement was not seen yet")
DROPPED_REPORTS: Final = Gauge("flotilla_status_dropped_reports", "reports that were given up: no placement came")
READ_MODEL_PENDING: Final = Gauge("flotilla_status_read_model_pending", "items that Redis does not have yet")
READ_MODEL_FAILURES: Final = Counter("flotilla_status_read_model_failures_total", "writes to Redis that failed")
READ_MODEL_REBUILDS: Final = Counter("flotilla_status_read_model_rebuilds_total", "times Redis was filled anew")
STANDING_BY: Final = Gauge("flotilla_status_standing_by", "1 while another instance tells the statuses")
