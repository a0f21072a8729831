"""`flotilla apply|delete|get|watch`: workloads from the command line, straight through the topics.

Exit codes: 0 done, 1 failed or rejected, 2 wrong usage, 3 not there in time.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from services.cli.connection import CLIENT, connected, run, workload_key
from services.cli.fleet.requesting import request_record
from shared.events.registry import decode, field_errors
from shared.events.topics import EVENTS, REQUESTS, STATUS
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase, WorkloadPhaseChanged, WorkloadStatus
from shared.ports.event_log import END, START, EventLog, Reader

NOT_IN_TIME = 3
_ENDED = frozenset({Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED, Phase.REJECTED, Phase.DELETED})
_BAD = frozenset({Phase.FAILED, Phase.REJECTED})

_out = Console()
_err = Console(stderr=True)

Wait = Annotated[float, typer.Option(help="Wait this many seconds for it to run (or to be gone); 0 does not wait.")]


def apply(
    file: Annotated[Path, typer.Option("--file", "-f", help="Workloads as YAML or JSON; - reads standard input.")],
    wait: Wait = 0.0,
) -> None:
    """Create or change workloads: each document is a workload (namespace, name, podSets, placement)."""
    text = sys.stdin.read() if str(file) == "-" else file.read_text()
    requests = [_request("apply", document) for document in yaml.safe_load_all(text) if document]
    if not requests:
        raise typer.BadParameter(f"{file} has no workload")
    run(_publish(requests, wait))


def delete(
    key: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME")],
    wait: Wait = 0.0,
) -> None:
    """Delete a workload everywhere."""
    parsed = workload_key(key)
    run(_publish([_request("delete", {"namespace": parsed.namespace, "name": parsed.name})], wait))


def get(
    key: Annotated[str | None, typer.Argument(metavar="[NAMESPACE/NAME]")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> None:
    """Show every workload, or one in full."""
    statuses = run(_read_statuses())
    if key is not None:
        wanted = str(workload_key(key))
        if wanted not in statuses:
            _err.print(f"{wanted}: not found")
            raise typer.Exit(1)
        statuses = {wanted: statuses[wanted]}
        output = "json"
    if output == "json":
        _out.print_json(json.dumps([item.model_dump(mode="json", by_alias=True) for item in statuses.values()]))
        return
    table = Table("workload", "phase", "ready", "clusters", "message")
    for name, item in sorted(statuses.items()):
        table.add_row(name, *row_of(item))
    _out.print(table)


def row_of(status: WorkloadStatus) -> tuple[str, str, str, str]:
    """Phase, ready replicas, clusters and message. What is not heard of is said to be so, whatever the phase."""
    clusters = ", ".join(f"{part.cluster} (silent)" if part.stale else part.cluster for part in status.clusters)
    return status.phase.value, f"{status.ready}/{status.desired}", clusters, status.message


def watch() -> None:
    """Follow every phase change from now on, until Ctrl-C."""
    try:
        run(_follow_events())
    except KeyboardInterrupt:
        return


def _request(operation: str, document: Any) -> WorkloadRequested:
    try:
        return WorkloadRequested.model_validate({"operation": operation, "workload": document})
    except ValidationError as error:
        for item in field_errors(error):
            _err.print(f"[red]{item.field}[/red]: {item.message}")
        raise typer.Exit(2) from error


async def _reader(log: EventLog, topic: str, start: int) -> Reader:
    reader = await log.reader(CLIENT)
    await reader.assign(dict.fromkeys(await log.partitions(topic), start))
    return reader


async def _publish(requests: list[WorkloadRequested], wait: float) -> None:
    async with connected(REQUESTS, STATUS) as log:
        reader = await _reader(log, STATUS.name, END)
        publisher = await log.publisher("flotilla-cli")
        waiting: dict[str, str] = {}
        try:
            for request in requests:
                record, identity, _ = request_record(request, source="flotilla/cli")
                await publisher.send(record)
                waiting[str(request.key)] = identity
                _out.print(f"{request.key} requested ({identity})", highlight=False)
            await publisher.flush()
            if wait and not await _settled(reader, waiting, wait):
                raise typer.Exit(NOT_IN_TIME)
        finally:
            await publisher.close()
            await reader.close()


async def _settled(reader: Reader, waiting: dict[str, str], wait: float) -> bool:
    """Whether each of the workloads came to an end in time; says so of each. Raises Exit for a bad end."""
    deadline = time.monotonic() + wait
    bad = False
    while waiting and time.monotonic() < deadline:
        for record in await reader.read(timeout_s=0.5):
            key = (record.key or b"").decode()
            if key not in waiting or record.value is None:
                continue
            status = decode(WorkloadStatus, record.value)
            if status.request_id == waiting[key] and status.phase in _ENDED:
                _out.print(f"{key} {status.phase} {status.message}".rstrip(), highlight=False)
                bad = bad or status.phase in _BAD
                del waiting[key]
    if bad:
        raise typer.Exit(1)
    for key in waiting:
        _err.print(f"{key} is not there yet after {wait:g} s")
    return not waiting


async def _read_statuses() -> dict[str, WorkloadStatus]:
    async with connected(STATUS) as log:
        reader = await _reader(log, STATUS.name, START)
        try:
            ends = await reader.end_offsets(reader.positions())
            statuses: dict[str, WorkloadStatus] = {}
            while any(position < ends[partition] for partition, position in reader.positions().items()):
                for record in await reader.read(max_records=5000, timeout_s=1.0):
                    key = (record.key or b"").decode()
                    if record.value is None:
                        statuses.pop(key, None)
                    else:
                        statuses[key] = decode(WorkloadStatus, record.value)
            return statuses
        finally:
            await reader.close()


async def _follow_events() -> None:
    async with connected(EVENTS) as log:
        reader = await _reader(log, EVENTS.name, END)
        try:
            while True:
                for record in await reader.read(timeout_s=1.0):
                    change = decode(WorkloadPhaseChanged, record.value)
                    before = f"{change.previous} → " if change.previous else ""
                    _out.print(
                        f"{change.namespace}/{change.name} {before}{change.phase} {change.message}".rstrip(),
                        highlight=False,
                    )
        finally:
            await reader.close()
