"""The only door from the autoscaler to the scheduler's code (docs/adr/0024, and the contract in `pyproject.toml`).

Sizes are judged by what the scheduler would do with them, so it is the scheduler that is asked: its node table, its
filters and its costs. All of this is pure, and nothing here is a copy.
"""

from __future__ import annotations

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.clusters import ClusterTable
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.scoring.kernel import compiled
from services.scheduler.decision.scoring.known import Profiles
from services.scheduler.decision.scoring.line import Line, Place
from services.scheduler.decision.scoring.mix import DemandMix
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.scoring.runs import Counted, take_alike
from services.scheduler.decision.scoring.spread import Spread
from services.scheduler.decision.table.arrays import BoolArray, FloatArray, IntArray, Rows
from services.scheduler.decision.table.neighbours import Neighbours, PodFacts
from services.scheduler.decision.table.nodes import NodeFacts, NodeTable
from services.scheduler.decision.table.requests import Request, Requests

__all__ = [
    "BoolArray",
    "ClusterTable",
    "Counted",
    "Demand",
    "DemandMix",
    "FloatArray",
    "IntArray",
    "Line",
    "Neighbours",
    "NodeFacts",
    "NodeTable",
    "Place",
    "PodFacts",
    "Profile",
    "Profiles",
    "Request",
    "Requests",
    "Rows",
    "SchedulerConfig",
    "Spread",
    "compiled",
    "take_alike",
]
