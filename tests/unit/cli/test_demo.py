"""What the demo tells of the workload that grows and shrinks."""

from __future__ import annotations

from services.cli.demo.report import make_report
from services.cli.demo.workloads import stream
from services.cli.fleet.tracking import Trace, Tracker
from shared.events.topics import SCALING
from shared.events.v1.scaling import PodSetScaled, WorkloadScaled
from shared.events.v1.status import Phase
from shared.events.v1.workloads import Workload
from shared.ports.event_log import Record


def said(before: int, replicas: int | None, key: bytes = b"demo/tide") -> Record:
    pod_set = PodSetScaled(name="main", replicas=replicas, before=before, reason="cpu above target")
    body = WorkloadScaled(uid="u", workload_generation=1, evaluated_at=1, pod_sets=(pod_set,))
    return Record(SCALING.name, 0, 0, 0, key, body.to_json())


def test_the_stream_begins_with_a_workload_that_is_scaled() -> None:
    requests = stream(1)
    first = next(requests)
    assert first.key == "demo/tide"
    asked = first.request.root.workload
    assert isinstance(asked, Workload)
    assert asked.scaling is not None
    assert asked.scaling.max_replicas > asked.scaling.min_replicas
    assert b'"scaling"' not in next(requests).request.to_json()


def test_the_report_says_how_it_grew_and_shrank() -> None:
    tracker = Tracker()
    tracker.requested("demo/tide", Trace(0, "r", Phase.RUNNING))
    for record in (said(2, None), said(2, 4), said(4, 4), said(4, 9), said(9, 3), said(1, 5, b"other/one")):
        tracker.observe(record)
    report = make_report(tracker, clusters="simulated", seconds=1.0, errors=[])
    assert report.document["scaled"] == {"demo/tide": {"grew": 2, "shrank": 1, "least": 2, "most": 9}}
