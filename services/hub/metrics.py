"""What the hub tells Prometheus."""

from __future__ import annotations

from shared.observability.metrics import Counter, Gauge
from shared.runtime.dead_letters import begin_at_zero

LEADER = Gauge("flotilla_hub_leader", "1 while this replica bridges")
QUEUED = Gauge("flotilla_hub_queued_objects", "Objects that wait to be looked at")
PROVISIONS_QUEUED = Gauge("flotilla_hub_queued_provisions", "Clusters that wait for a call to their management cluster")
INSTRUCTIONS = Counter("flotilla_hub_instructions_total", "Instructions carried out", ["kind", "outcome"])
DEAD_LETTERS = Counter("flotilla_hub_dead_letters_total", "Records refused", ["topic"])
begin_at_zero(DEAD_LETTERS, "hub")
RESTARTS = Counter("flotilla_hub_bridge_restarts_total", "The bridge began again from lists and topics")
INTERRUPTIONS = Counter("flotilla_hub_watch_interruptions_total", "Watches that broke and were resumed", ["resource"])
ADMISSIONS = Counter("flotilla_hub_admissions_total", "Objects reviewed by /admit", ["kind", "outcome"])
AUDITS_DROPPED = Counter("flotilla_hub_audits_dropped_total", "Refusals that were not audited: the log was too slow")
