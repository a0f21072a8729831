"""The only door from the autoscaler to the scheduler's code (docs/adr/0024, and the contract in `pyproject.toml`).

Sizes are judged by what the scheduler would do with them, so it is the scheduler that is asked: its node table, its
filters and its costs. What waits and what runs is read as the scheduler reads it: plans of workloads, nodes, pods'
rules, disruption budgets. All of this is pure, and nothing here is a copy.
"""

from __future__ import annotations

from services.scheduler.decision.asked.admission import plan_workload
from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.asked.manifests import Division
from services.scheduler.decision.asked.plan_cache import PlanCache
from services.scheduler.decision.asked.plans import PodSetPlan
from services.scheduler.decision.asked.requested import Stated, as_requested, capped, rolls, stated
from services.scheduler.decision.clusters import Cluster as KnownCluster
from services.scheduler.decision.clusters import ClusterTable
from services.scheduler.decision.config import SchedulerConfig, Weights
from services.scheduler.decision.scoring.kernel import compiled
from services.scheduler.decision.scoring.known import Profiles
from services.scheduler.decision.scoring.line import Line, Place
from services.scheduler.decision.scoring.mix import DemandMix
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.scoring.runs import Counted, take_alike
from services.scheduler.decision.scoring.spread import Spread
from services.scheduler.decision.seen.disruptions import SeenBudgets
from services.scheduler.decision.seen.observed import (
    BUDGETS,
    NODES,
    PODS,
    NodeObject,
    allocatable,
    decode_node,
    taints_of,
)
from services.scheduler.decision.seen.pods import share_of
from services.scheduler.decision.seen.reservations import ShareKey
from services.scheduler.decision.table.arrays import BoolArray, FloatArray, IntArray, Rows
from services.scheduler.decision.table.neighbours import Neighbours, PodFacts
from services.scheduler.decision.table.nodes import NodeFacts, NodeTable
from services.scheduler.decision.table.requests import Request, Requests
from services.scheduler.decision.table.rules import Rules, Term, rules_of, terms_of

__all__ = [
    "BUDGETS",
    "NODES",
    "PODS",
    "BoolArray",
    "ClusterTable",
    "Counted",
    "Demand",
    "DemandMix",
    "Division",
    "FloatArray",
    "IntArray",
    "KnownCluster",
    "Line",
    "Neighbours",
    "NodeFacts",
    "NodeObject",
    "NodeTable",
    "Place",
    "PlanCache",
    "PodFacts",
    "PodSetPlan",
    "Profile",
    "Profiles",
    "Request",
    "Requests",
    "Rows",
    "Rules",
    "SchedulerConfig",
    "SeenBudgets",
    "ShareKey",
    "Spread",
    "Stated",
    "Term",
    "Weights",
    "allocatable",
    "as_requested",
    "capped",
    "compiled",
    "decode_node",
    "plan_workload",
    "rolls",
    "rules_of",
    "share_of",
    "stated",
    "taints_of",
    "take_alike",
    "terms_of",
]
