"""What an operator can see of the watcher."""

from __future__ import annotations

from typing import Final

from shared.observability.metrics import Counter, Gauge
from shared.runtime.dead_letters import begin_at_zero

RECORDS: Final = Counter("flotilla_watcher_records_total", "records published to fleet.objects", ("cluster", "type"))
BYTES: Final = Counter("flotilla_watcher_published_bytes_total", "bytes of their values", ("cluster",))
LISTS: Final = Counter("flotilla_watcher_lists_total", "complete lists", ("cluster", "resource"))
INTERRUPTIONS: Final = Counter(
    "flotilla_watcher_interruptions_total", "times a list or watch broke", ("cluster", "resource", "reason")
)
RESTARTS: Final = Counter(
    "flotilla_watcher_session_restarts_total", "times a cluster's session began anew after a failure", ("cluster",)
)
OBJECTS: Final = Gauge("flotilla_watcher_objects", "objects that the log holds", ("cluster", "resource"))
SESSIONS: Final = Gauge("flotilla_watcher_sessions", "clusters that are being watched")
SAMPLES: Final = Counter("flotilla_watcher_metric_samples_total", "samples published to fleet.metrics", ("cluster",))
DEAD_LETTERS: Final = Counter("flotilla_watcher_dead_letters_total", "records refused", ("topic",))
begin_at_zero(DEAD_LETTERS, "watcher")
ASKED: Final = Counter(
    "flotilla_watcher_asked_metrics_total", "metrics of fleet.sampling that were read", ("cluster", "result")
)
STANDING_BY: Final = Gauge(
    "flotilla_watcher_standing_by", "1 while another watcher publishes for a cluster of this one", ["cluster"]
)
AUDITS: Final = Counter(
    "flotilla_watcher_audits_total", "resources that were compared, or could not be", ("cluster", "result")
)
DIFFERENCES: Final = Counter(
    "flotilla_watcher_differences_total",
    "objects that an audit found otherwise in the cluster, or in the log, and published again",
    ("cluster", "resource", "against"),
)
AUDITED: Final = Gauge(
    "flotilla_watcher_audited_timestamp_seconds", "when the last audit ended, in Unix time", ("cluster",)
)
