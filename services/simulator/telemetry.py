"""What the simulator tells Prometheus of itself; `metrics.py` is what its clusters say of their nodes and pods."""

from __future__ import annotations

from typing import Final

from shared.observability.metrics import Counter, Gauge

CLUSTERS: Final = Gauge("flotilla_simulator_clusters", "Clusters that are simulated")
REQUESTS: Final = Counter(
    "flotilla_simulator_api_requests_total",
    "Requests that were answered; a watch counts when it ends",
    ("method", "code"),
)
