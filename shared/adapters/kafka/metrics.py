"""What the log's clients tell Prometheus, in every service alike."""

from __future__ import annotations

from typing import Final

from shared.observability.metrics import Gauge

LAG: Final = Gauge(
    "flotilla_reader_lag_records",
    "Offsets that a reader is behind the end of a topic, as of its latest fetch",
    ("reader", "topic"),
)
