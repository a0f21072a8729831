"""What an operator can see of the autoscaler."""

from __future__ import annotations

from collections.abc import Iterable
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
# Series that begin with what they count would show no increase of it.
for _reason in ("OutOfStock", "DidNotCome"):
    NODE_ORDERS.labels(_reason)
PODS_WAITING: Final = Gauge("flotilla_autoscaler_pods_waiting", "pods that no node had room for at the last plan")
PODS_WITHOUT_NODE: Final = Gauge(
    "flotilla_autoscaler_pods_without_node", "pods for which the last plan of node groups has no node either"
)
HEAD_ROOM: Final = Gauge(
    "flotilla_autoscaler_head_room_ratio", "part of the wished head-room that had room at the last plan, or will have"
)
# Whoever plans nothing lacks none.
HEAD_ROOM.set(1)
LIMITS_REACHED: Final = Gauge(
    "flotilla_autoscaler_limits_reached",
    "1 for a limit that kept nodes from pods or head-room at the last plan; without a cluster it is the fleet's",
    ("cluster", "limit"),
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


def told_of_plan(without_node: int, head_room: float | None, limits: Iterable[tuple[str, str]]) -> None:
    """What the last plan of node groups left over; `limits` that are reached, by cluster and name."""
    PODS_WITHOUT_NODE.set(without_node)
    HEAD_ROOM.set(1.0 if head_room is None else head_room)
    LIMITS_REACHED.clear()
    for cluster, limit in limits:
        LIMITS_REACHED.labels(cluster, limit).set(1)
