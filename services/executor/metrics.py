"""What the executor tells Prometheus."""

from __future__ import annotations

from shared.observability.metrics import Counter, Gauge, Histogram

_LATENCY = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

COMMANDS = Counter("flotilla_executor_commands_total", "Command records read", ["cluster", "kind"])
CALLS = Counter("flotilla_executor_calls_total", "Requests that change the cluster", ["cluster", "call", "answer"])
CALL_SECONDS = Histogram("flotilla_executor_call_seconds", "One request that changes a cluster", buckets=_LATENCY)
COMMAND_TO_REPORT_SECONDS = Histogram(
    "flotilla_executor_command_to_report_seconds",
    "From a command read to its first applied or withdrawn report",
    buckets=_LATENCY,
)
REPORTS = Counter("flotilla_executor_reports_total", "Reports of outcomes", ["cluster", "outcome"])
REPORT_RETRIES = Counter("flotilla_executor_report_retries_total", "Reports that had to be published again")
ERRORS = Counter("flotilla_executor_errors_total", "Defects and unreadable data survived", ["cluster", "where"])
SUBJECTS = Gauge("flotilla_executor_subjects", "Subjects that the cluster has commands for", ["cluster"])
OBJECTS = Gauge("flotilla_executor_objects", "Objects in the cluster that the executor applied", ["cluster"])
EVICTIONS = Counter("flotilla_executor_evictions_total", "Evictions from nodes to be removed", ["cluster", "answer"])
PROVIDER_CALLS = Counter(
    "flotilla_executor_provider_calls_total", "Changes asked of providers of nodes", ["cluster", "call", "answer"]
)
LEFT_OVER = Gauge("flotilla_executor_left_over_subjects", "Subjects with objects and without a command", ["cluster"])
QUEUED = Gauge("flotilla_executor_queued_subjects", "Subjects that wait for a worker", ["cluster"])
FEED_RESTARTS = Counter("flotilla_executor_feed_restarts_total", "Times the command topics were read from their start")
SUSPENSIONS = Counter("flotilla_executor_suspensions_total", "Times a cluster was begun anew since the process slept")
