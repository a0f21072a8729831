"""Grafana's dashboards from the few things that differ between panels: `python deploy/grafana/generate.py [--check]`.

A panel is a title, its queries with their legends, a unit, and half a sentence on how to read it. All else is the same
everywhere: two panels in a row, a time series each, a stat where a number says it all.
"""
# ruff: noqa: INP001 - a script beside what it makes, and part of no package

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "dashboards"
SOURCE: Final = {"type": "prometheus", "uid": "flotilla-prometheus"}
_WIDTH: Final = 24
_HEIGHT: Final = {"timeseries": 8, "stat": 4}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries` are pairs of PromQL and legend; `unit` is one of Grafana's; `red_from` colours a stat."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    text: str = ""
    kind: str = "timeseries"
    red_from: float | None = None

    @property
    def width(self) -> int:
        return 4 if self.kind == "stat" else 12

    def render(self, number: int, x: int, y: int) -> Json:
        defaults: Json = {"unit": self.unit, "min": 0}
        if self.kind == "stat":
            steps: list[Json] = [{"color": "green", "value": None}]
            if self.red_from is not None:
                steps.append({"color": "red", "value": self.red_from})
            defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        else:
            defaults["custom"] = {"fillOpacity": 10, "showPoints": "never"}
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.text,
            "datasource": SOURCE,
            "gridPos": {"h": _HEIGHT[self.kind], "w": self.width, "x": x, "y": y},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": {} if self.kind == "stat" else {"tooltip": {"mode": "multi", "sort": "desc"}},
            "targets": [
                {"refId": chr(ord("A") + at), "expr": query, "legendFormat": legend, "datasource": SOURCE}
                for at, (query, legend) in enumerate(self.queries)
            ],
        }


def number(title: str, query: str, text: str, unit: str = "short", red_from: float | None = None) -> Panel:
    return Panel(title, ((query, ""),), unit, text, "stat", red_from)


def lines(title: str, unit: str, text: str, *queries: tuple[str, str]) -> Panel:
    return Panel(title, queries, unit, text)


_LAG = "reader_topic:flotilla_reader_lag_records:max"
_P = "fleet:flotilla_{}_seconds:p{}_5m"

# Panels of more than one dashboard.
_LEADERS = number("Leaders", "sum(cell:flotilla_scheduler_leader:sum)", "One for each cell.")
_REQUEST_TO_PLACEMENT = lines(
    "Request to placement",
    "s",
    "From a request published to its placement published.",
    (_P.format("scheduler_request_to_placement", 50), "p50"),
    (_P.format("scheduler_request_to_placement", 99), "p99"),
)
_DRIFT = lines(
    "Drift",
    "short",
    "Workloads that a cluster does not hold as it was told.",
    ("sum by (cluster, drift) (cluster_drift:flotilla_status_drifting_workloads:max)", "{{cluster}} {{drift}}"),
)

DASHBOARDS: Final[dict[str, tuple[str, tuple[Panel, ...]]]] = {
    "fleet": (
        "Flotilla: fleet overview",
        (
            number(
                "Workloads running", 'sum(phase:flotilla_status_workloads:max{phase="Running"})', "All replicas ready."
            ),
            number(
                "Waiting for room",
                'sum(phase:flotilla_status_workloads:max{phase="Pending"}) or vector(0)',
                "flotilla why says who refuses them.",
                red_from=1,
            ),
            number(
                "Degraded",
                'sum(phase:flotilla_status_workloads:max{phase="Degraded"}) or vector(0)',
                "Fewer ready than asked.",
                red_from=1,
            ),
            number(
                "Silent clusters", "max(flotilla_status_silent_clusters)", "Their watchers are not heard.", red_from=1
            ),
            _LEADERS,
            number("Services down", 'sum(up{job=~"flotilla-.+"} == bool 0)', "Do not answer /metrics.", red_from=1),
            lines(
                "Workloads by phase",
                "short",
                "From fleet.status.",
                ("phase:flotilla_status_workloads:max", "{{phase}}"),
            ),
            lines(
                "Hops of a workload, p99",
                "s",
                "From one hop of a generation to the next.",
                ("hop:flotilla_status_hop_seconds:p99_5m", "{{hop}}"),
            ),
            lines(
                "Hops of a workload, p50",
                "s",
                "Half of all take no longer.",
                ("hop:flotilla_status_hop_seconds:p50_5m", "{{hop}}"),
            ),
            _REQUEST_TO_PLACEMENT,
            lines(
                "Requests",
                "reqps",
                "Taken from fleet.requests, by what came of them.",
                ("outcome:flotilla_scheduler_requests:rate5m", "{{outcome}}"),
            ),
            lines(
                "Age of heartbeats",
                "s",
                "More than 60 s is an alert.",
                ("cluster:flotilla_status_heartbeat_age_seconds:max", "{{cluster}}"),
            ),
            _DRIFT,
            lines("Lag", "short", "Records between a reader and the end of a topic.", (_LAG, "{{reader}} {{topic}}")),
            lines(
                "Dead letters",
                "cps",
                "Refused records, by who refused them.",
                ("job_topic:flotilla_dead_letters:rate5m", "{{job}} {{topic}}"),
            ),
            lines(
                "Hub: instructions",
                "ops",
                "Carried out on the hub cluster and on the log.",
                ("kind_outcome:flotilla_hub_instructions:rate5m", "{{kind}} {{outcome}}"),
            ),
            lines(
                "Status: a batch, p99",
                "s",
                "From its records to their statuses being acknowledged.",
                (_P.format("status_batch", 99), "p99"),
            ),
        ),
    ),
    "scheduler": (
        "Flotilla: scheduler",
        (
            _LEADERS,
            number("Epoch", "max(flotilla_scheduler_epoch)", "Grows with each change of leader."),
            number(
                "Requests that wait", "max(flotilla_scheduler_requests_waiting)", "Read, and waiting for their turn."
            ),
            number(
                "Namespaces passed over",
                "max(flotilla_scheduler_namespaces_passed_over)",
                "With more requests than their lanes hold.",
                red_from=1,
            ),
            number(
                "Leaving a cluster", "max(flotilla_scheduler_leaving_workloads)", "Have replicas that wait to leave."
            ),
            number("Cut off", "max(flotilla_scheduler_cut_off)", "1: it is rather we who are not heard.", red_from=1),
            lines(
                "Decisions", "ops", "Appended to the journal.", ("kind:flotilla_scheduler_decisions:rate5m", "{{kind}}")
            ),
            lines(
                "A round of decisions, p99", "s", "Pure work of the leader.", (_P.format("scheduler_decide", 99), "p99")
            ),
            _REQUEST_TO_PLACEMENT,
            lines(
                "Published",
                "ops",
                "Placements and commands derived from the journal.",
                ("sum by (kind) (rate(flotilla_scheduler_published_records_total[5m]))", "{{kind}}"),
            ),
            lines(
                "Queues: dominant share",
                "short",
                "Largest part of a resource of the fleet by weight.",
                ("max by (queue) (flotilla_scheduler_queue_dominant_share)", "{{queue}}"),
            ),
            lines(
                "Queues: workloads that wait",
                "short",
                "By queue.",
                ("max by (queue) (flotilla_scheduler_queue_waiting_workloads)", "{{queue}}"),
            ),
            lines(
                "Preemption and moves",
                "cps",
                "Replicas that took room, made room, or began to move to a better place.",
                ("sum(rate(flotilla_scheduler_preemptions_total[5m]))", "took room"),
                ("sum(rate(flotilla_scheduler_preemption_victims_total[5m]))", "made room"),
                ("sum(rate(flotilla_scheduler_rebalances_total[5m]))", "moved"),
            ),
            lines(
                "Void entries and reminders",
                "cps",
                "Of a replaced leader; workloads published again since a cluster did not hold them.",
                ("sum(rate(flotilla_scheduler_void_entries_total[5m]))", "void"),
                ("sum by (cluster) (rate(flotilla_scheduler_reminders_total[5m]))", "reminded {{cluster}}"),
            ),
            lines(
                "Lag",
                "short",
                "Of the scheduler's readers.",
                (_LAG + '{reader=~"scheduler.*"}', "{{reader}} {{topic}}"),
            ),
            lines(
                "CPU",
                "percentunit",
                "A leader at 100 % has no more to give.",
                ('rate(process_cpu_seconds_total{job="flotilla-scheduler"}[5m])', "{{instance}}"),
            ),
        ),
    ),
    "agents": (
        "Flotilla: agents",
        (
            number("Clusters watched", "sum(flotilla_watcher_sessions)", "Sessions of watchers."),
            number("Objects", "sum(cluster:flotilla_watcher_objects:sum)", "That the log holds."),
            number("Subjects", "sum(flotilla_executor_subjects)", "That clusters have commands for."),
            number(
                "Subjects that wait", "sum(flotilla_executor_queued_subjects)", "For one of the executor's workers."
            ),
            number(
                "Left over",
                "sum(flotilla_executor_left_over_subjects)",
                "Objects without a command: confirmed, then removed.",
                red_from=1,
            ),
            number(
                "Calls that fail",
                "max(cluster:flotilla_executor_failed_calls:ratio5m)",
                "Of the worst cluster.",
                "percentunit",
                0.1,
            ),
            lines(
                "Records published",
                "ops",
                "By watchers, to fleet.objects.",
                ("cluster:flotilla_watcher_records:rate5m", "{{cluster}}"),
            ),
            lines(
                "Interruptions of watches",
                "cps",
                "Normal now and then; see the reason.",
                ("sum by (cluster, reason) (rate(flotilla_watcher_interruptions_total[5m]))", "{{cluster}} {{reason}}"),
            ),
            lines(
                "Audits",
                "cps",
                "Resources that were compared, and what was found otherwise.",
                ("sum by (result) (rate(flotilla_watcher_audits_total[5m]))", "{{result}}"),
                ("sum by (cluster) (rate(flotilla_watcher_differences_total[5m]))", "differences {{cluster}}"),
            ),
            lines(
                "Age of heartbeats",
                "s",
                "As status hears them.",
                ("cluster:flotilla_status_heartbeat_age_seconds:max", "{{cluster}}"),
            ),
            lines(
                "Calls to API servers",
                "reqps",
                "By executors.",
                ("cluster:flotilla_executor_calls:rate5m", "{{cluster}}"),
            ),
            lines(
                "Calls that fail",
                "percentunit",
                "More than 10 % is an alert.",
                ("cluster:flotilla_executor_failed_calls:ratio5m", "{{cluster}}"),
            ),
            lines(
                "A call, and command to report, p99",
                "s",
                "Of executors.",
                (_P.format("executor_call", 99), "call"),
                (_P.format("executor_command_to_report", 99), "command to report"),
            ),
            lines(
                "Reports",
                "ops",
                "By outcome.",
                ("sum by (outcome) (rate(flotilla_executor_reports_total[5m]))", "{{outcome}}"),
            ),
            _DRIFT,
            lines(
                "Errors and restarts",
                "cps",
                "Defects survived; sessions that began anew.",
                (
                    "sum by (cluster, where) (rate(flotilla_executor_errors_total[5m]))",
                    "executor {{cluster}} {{where}}",
                ),
                ("sum by (cluster) (rate(flotilla_watcher_session_restarts_total[5m]))", "watcher {{cluster}}"),
            ),
        ),
    ),
    "autoscaler": (
        "Flotilla: autoscaler",
        (
            number("Workloads scaled", "max(flotilla_autoscaler_workloads)", "With a scaling section."),
            number(
                "Looks that fail",
                "fleet:flotilla_autoscaler_failed_evaluations:ratio5m",
                "A metric could not be measured.",
                "percentunit",
                0.5,
            ),
            number(
                "Standing by", "sum(flotilla_autoscaler_standing_by)", "Instances that wait for another to fall silent."
            ),
            number("Samples", "sum(cluster:flotilla_autoscaler_samples:rate5m)", "A second, from all clusters.", "cps"),
            number("A look, p99", _P.format("autoscaler_evaluate", 99), "One workload.", "s"),
            number("Lag", "max(" + _LAG + '{reader=~"autoscaler.*"})', "Records."),
            lines(
                "Looks at workloads",
                "ops",
                "On a new sample, or since it is time.",
                ("occasion:flotilla_autoscaler_evaluations:rate5m", "{{occasion}}"),
            ),
            lines(
                "Scalings",
                "cps",
                "Times another number of replicas was asked for.",
                ("to:flotilla_autoscaler_scalings:rate5m", "{{to}}"),
            ),
            lines("Samples", "cps", "By cluster.", ("cluster:flotilla_autoscaler_samples:rate5m", "{{cluster}}")),
            lines(
                "Lag",
                "short",
                "faust's reader of fleet.metrics is autoscaler-windows.",
                (_LAG + '{reader=~"autoscaler.*"}', "{{reader}} {{topic}}"),
            ),
            lines(
                "Published",
                "ops",
                "Records of fleet.scaling.",
                ("sum(rate(flotilla_autoscaler_published_records_total[5m]))", "records"),
            ),
            lines(
                "Restarts",
                "cps",
                "Times the state was built anew.",
                ("sum by (instance) (rate(flotilla_autoscaler_restarts_total[5m]))", "{{instance}}"),
            ),
            lines(
                "Requests applied",
                "cps",
                "Pod sets whose containers were to request something else, by their use.",
                ("sum(rate(flotilla_autoscaler_requests_applied_total[5m]))", "pod sets"),
            ),
            lines(
                "Nodes ordered",
                "short",
                "Nodes that each node group should have.",
                ("max by (cluster, group) (flotilla_autoscaler_nodes_ordered)", "{{cluster}}/{{group}}"),
            ),
            lines(
                "Orders of node groups",
                "cps",
                "By reason.",
                ("sum by (reason) (rate(flotilla_autoscaler_node_orders_total[5m]))", "{{reason}}"),
            ),
            lines(
                "Pods that wait for nodes",
                "short",
                "At the last plan; for some of them no node may be made.",
                ("max(flotilla_autoscaler_pods_waiting)", "waiting"),
                ("max(flotilla_autoscaler_pods_without_node)", "without a node"),
            ),
            lines(
                "Head-room",
                "percentunit",
                "The part of what there should be that has room.",
                ("min(flotilla_autoscaler_head_room_ratio)", "has room"),
            ),
            lines(
                "Limits that bind",
                "short",
                "Limits of clusters, or without a cluster of the fleet, that keep nodes from what has no place.",
                ("max by (cluster, limit) (flotilla_autoscaler_limits_reached)", "{{cluster}} {{limit}}"),
            ),
            lines(
                "A plan of node groups, p99",
                "s",
                "To grow and to shrink.",
                (
                    "histogram_quantile(0.99, sum by (le, of) (rate(flotilla_autoscaler_plan_seconds_bucket[5m])))",
                    "{{of}}",
                ),
                ("sum by (of) (rate(flotilla_autoscaler_failed_plans_total[5m]))", "failed {{of}}"),
            ),
        ),
    ),
}


def render(name: str) -> str:
    title, panels = DASHBOARDS[name]
    placed, x, y, height = [], 0, 0, 0
    for at, panel in enumerate(panels, 1):
        if x + panel.width > _WIDTH:
            x, y, height = 0, y + height, 0
        placed.append(panel.render(at, x, y))
        x, height = x + panel.width, max(height, _HEIGHT[panel.kind])
    document = {
        "uid": f"flotilla-{name}",
        "title": title,
        "tags": ["flotilla"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": []},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "title": "Flotilla", "tags": ["flotilla"], "asDropdown": False}],
        "panels": placed,
    }
    return json.dumps(document, indent=1) + "\n"


def main(arguments: list[str]) -> int:
    stale = []
    for name in DASHBOARDS:
        path, wanted = FOLDER / f"{name}.json", render(name)
        if not path.exists() or path.read_text() != wanted:
            stale.append(path.name)
            if "--check" not in arguments:
                path.write_text(wanted)
    if stale and "--check" in arguments:
        sys.stderr.write(f"dashboards differ from deploy/grafana/generate.py, run `make gen`: {', '.join(stale)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
