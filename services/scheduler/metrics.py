"""What the scheduler tells Prometheus."""

from __future__ import annotations

from shared.observability.metrics import Counter, Gauge, Histogram
from shared.runtime.dead_letters import begin_at_zero

_LATENCY = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

LEADER = Gauge("flotilla_scheduler_leader", "1 while this replica leads its cell")
EPOCH = Gauge("flotilla_scheduler_epoch", "The epoch of the cell that this replica knows of")
REQUESTS = Counter("flotilla_scheduler_requests_total", "Requests consumed", ["outcome"])
REQUESTS_WAITING = Gauge("flotilla_scheduler_requests_waiting", "Requests that were read and wait for their turn")
NAMESPACES_PASSED_OVER = Gauge(
    "flotilla_scheduler_namespaces_passed_over", "Namespaces with more requests than their lanes hold"
)
DECISIONS = Counter("flotilla_scheduler_decisions_total", "Decisions appended to the journal", ["kind"])
PUBLISHED = Counter("flotilla_scheduler_published_records_total", "Records derived from the journal", ["kind"])
DEAD_LETTERS = Counter("flotilla_scheduler_dead_letters_total", "Records refused", ["topic"])
begin_at_zero(DEAD_LETTERS, "scheduler")
REMINDERS = Counter(
    "flotilla_scheduler_reminders_total", "Workloads published again since a cluster did not hold them", ["cluster"]
)
VOID = Counter("flotilla_scheduler_void_entries_total", "Journal entries of a replaced leader")
PREEMPTIONS = Counter("flotilla_scheduler_preemptions_total", "Replicas that took the room of less important ones")
VICTIMS = Counter("flotilla_scheduler_preemption_victims_total", "Replicas that made room for more important ones")
QUEUE_SHARE = Gauge(
    "flotilla_scheduler_queue_dominant_share",
    "Largest part of a resource of the fleet, divided by the weight",
    ["queue"],
)
QUEUE_WAITING = Gauge("flotilla_scheduler_queue_waiting_workloads", "Workloads with replicas that wait", ["queue"])
LEAVING = Gauge("flotilla_scheduler_leaving_workloads", "Workloads with replicas that wait to leave a cluster")
REBALANCES = Counter("flotilla_scheduler_rebalances_total", "Replicas that began to move to a better place")
CUT_OFF = Gauge(
    "flotilla_scheduler_cut_off", "1 while so many clusters are silent that none is left for it: it is rather we"
)
DECIDE_SECONDS = Histogram("flotilla_scheduler_decide_seconds", "One round of decisions", buckets=_LATENCY)
REQUEST_TO_PLACEMENT_SECONDS = Histogram(
    "flotilla_scheduler_request_to_placement_seconds",
    "From a request published to its placement published",
    buckets=_LATENCY,
)
