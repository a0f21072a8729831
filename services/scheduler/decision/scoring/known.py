"""The profiles that are known, by what is asked; the least recently used one makes room."""

from __future__ import annotations

import numpy as np

from services.scheduler.decision.asked.demands import Demand
from services.scheduler.decision.clusters import ClusterTable
from services.scheduler.decision.config import SchedulerConfig
from services.scheduler.decision.scoring.constraints import Constraints
from services.scheduler.decision.scoring.facts import FactCosts
from services.scheduler.decision.scoring.filters import SelectorMatches, TaintsAreTolerated
from services.scheduler.decision.scoring.kept import FactsVersion, Parts
from services.scheduler.decision.scoring.mix import DemandMix
from services.scheduler.decision.scoring.profiles import Profile
from services.scheduler.decision.table.arrays import BoolArray, Rows
from services.scheduler.decision.table.neighbours import About, Neighbours
from services.scheduler.decision.table.nodes import NodeTable
from services.scheduler.decision.table.requests import Request, Requests
from services.scheduler.decision.table.views import NodeView
from shared.model.pods import PodShape

# Profiles are kept for this many rows in all (16 bytes each), but never fewer profiles than these.
_CACHED_ROWS = 40_000_000
_FEWEST_PROFILES = 16
# So many arrays are kept that others begin with.
_SHARED_FACTS = 8
NOTHING = About()


class Profiles:
    """Profiles by demand; the least recently used one makes room."""

    def __init__(
        self,
        table: NodeTable,
        clusters: ClusterTable,
        requests: Requests,
        mix: DemandMix,
        neighbours: Neighbours,
        config: SchedulerConfig,
    ) -> None:
        self._neighbours = neighbours
        self._table = table
        self._clusters = clusters
        self._mix = mix
        self._requests = requests
        self._config = config
        # Plug-ins may judge by anything that a pod is.
        self._fact_costs = FactCosts(0 if config.filters or config.costs else _SHARED_FACTS)
        self._known: dict[Demand | tuple[Demand, About], Profile] = {}

    @property
    def facts_version(self) -> FactsVersion:
        table = self._table
        others = self._mix.version, table.images.version, table.volumes.version, self._clusters.version
        return table.facts_log.end, table.price_scale, table.columns.width, table.layout, *others

    def get(self, demand: Demand, about: About = NOTHING) -> Profile:
        """`about`: what running pods want of such pods."""
        key = (demand, about) if about.terms else demand
        profile = self._known.pop(key, None)
        if profile is None:
            shape = demand.shape
            request = self._requests.intern(shape.requests, shape.gpu_milli, shape.host_ports)
            constraints = self._constraints(demand, request, about) if demand.rules or about.terms else None
            parts = Parts(self._table, self._clusters, self._mix, self._config, self._fact_costs)
            profile = Profile(demand, request, parts, constraints)
            # Each profile has two numbers for each row: the larger the fleet, the fewer of them are kept.
            limit = max(_FEWEST_PROFILES, min(self._config.cached_profiles, _CACHED_ROWS // max(self._table.rows, 1)))
            while len(self._known) >= limit:
                del self._known[next(iter(self._known))]
        self._known[key] = profile
        return profile

    def _constraints(self, demand: Demand, request: Request, about: About) -> Constraints:
        included = _Included(self._table, demand.shape, request)
        return Constraints(self._neighbours, demand.rules, about, self._config.weights, included)


class _Included:
    """What a spread constraint's policies ask of nodes."""

    def __init__(self, table: NodeTable, shape: PodShape, request: Request) -> None:
        self._table = table
        self._request = request
        self._selector = SelectorMatches(shape) if SelectorMatches.needed(shape) else None
        self._taints = TaintsAreTolerated(shape)

    def by_affinity(self, rows: Rows) -> BoolArray:
        if self._selector is None:
            return np.ones(len(rows), np.bool_)
        return self._selector.mask(NodeView(self._table, rows, self._request))

    def by_taints(self, rows: Rows) -> BoolArray:
        return self._taints.mask(NodeView(self._table, rows, self._request))
