"""What an operator can see of the autoscaler."""

from __future__ import annotations

from typing import Final

from shared.observability.metrics import Counter, Gauge, Histogram
from shared.runtime.dead_letters import begin_at_zero

WORKLOADS: Final = Gauge("flotilla_autoscaler_workloads", "workloads that are scaled")
EVALUATIONS: Final = Counter("flotilla_autoscaler_evaluations_total", "looks at a workload", ("occasion",))
SCALED: Final = Counter("flotilla_autoscaler_scalings_total", "times another number of replicas was asked for", ("to",))
# A series that begins with its first scaling would show no rate for it.
for _direction in ("more", "fewer"):
    SCALED.labels(_direction)
FAILED: Final = Counter("flotilla_autoscaler_failed_evaluations_total", "looks at which a metric could not be measured")
REQUESTS_APPLIED: Final = Counter(
    "flotilla_autoscaler_requests_applied_total", "pod sets whose containers were to request something else"
)
PUBLISHED: Final = Counter("flotilla_autoscaler_published_records_total", "records of fleet.scaling and fleet.sampling")
DECISIONS: Final = Counter("flotilla_autoscaler_decisions_total", "decisions written into fleet.decisions", ("type",))
SAMPLES: Final = Counter("flotilla_autoscaler_samples_total", "records of fleet.metrics", ("cluster",))
DEAD_LETTERS: Final = Counter("flotilla_autoscaler_dead_letters_total", "records refused", ("topic",))
begin_at_zero(DEAD_LETTERS, "autoscaler")
RESTARTS: Final = Counter("flotilla_autoscaler_restarts_total", "times the state was built anew from the log")
STANDING_BY: Final = Gauge("flotilla_autoscaler_standing_by", "1 while another instance works")
EVALUATE_SECONDS: Final = Histogram(
    "flotilla_autoscaler_evaluate_seconds",
    "one look at one workload",
    buckets=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5),
)
NODES_ORDERED: Final = Gauge(
    "flotilla_autoscaler_nodes_ordered", "nodes that a node group should have", ("cluster", "group")
)
NODE_ORDERS: Final = Counter("flotilla_autoscaler_node_orders_total", "orders of node groups", ("reason",))
PODS_WAITING: Final = Gauge("flotilla_autoscaler_pods_waiting", "pods that no node had room for at the last plan")
PODS_WITHOUT_NODE: Final = Gauge(
    "flotilla_autoscaler_pods_without_node", "pods for which the last plan of node groups has no node either"
)
PLAN_SECONDS: Final = Histogram(
    "flotilla_autoscaler_plan_seconds",
    "one plan of all node groups",
    ("of",),
    buckets=(0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
PLANS_FAILED: Final = Counter("flotilla_autoscaler_failed_plans_total", "plans of node groups with a defect", ("of",))
for _of in ("grow", "shrink", "record"):
    PLANS_FAILED.labels(_of)
