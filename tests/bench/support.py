"""What several benchmarks need: a directory for a run, requests, load beside a measurement, and how figures are told.

The last line of standard output is one JSON object, whatever else a benchmark says; tables go to the console.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shared.events.v1.requests import WorkloadRequested


@contextmanager
def run_directory(name: str, kept: Path | None = None) -> Iterator[Path]:
    """`kept`, made if it is not there; else one of the run's own, which is gone afterwards."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.absolute()
        return
    with tempfile.TemporaryDirectory(prefix=f"flotilla-{name}-") as made:
        yield Path(made)


def apply_request(namespace: str, name: str, *, cpu: str, memory: str, replicas: int = 1) -> WorkloadRequested:
    """A request for one pod set."""
    resources = {"requests": {"cpu": cpu, "memory": memory}}
    pod_set = {"name": "main", "replicas": replicas, "image": "nginx", "resources": resources}
    body = {"namespace": namespace, "name": name, "podSets": [pod_set]}
    return WorkloadRequested.model_validate({"operation": "apply", "workload": body})


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Something that goes on meanwhile. Raises what ended it before its time."""
    task = asyncio.create_task(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def quantile(values: Sequence[float], q: float) -> float:
    """By nearest rank: one of the values; not a number if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def core_wait_s(pid: int) -> float:
    """How long its threads, as far as they live, were ready to run and had no core: Linux' run_delay, schedstats(5)."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            found += int((task / "schedstat").read_text().split()[1])
    return found / 1e9


def show_figures(title: str, result: Mapping[str, Any], console: Console) -> None:
    """Each figure in a row of its own."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in result.items():
        table.add_row(name.replace("_", " "), str(value))
    console.print(table)


def write_result(result: Mapping[str, Any]) -> None:
    """The last line, for machines."""
    sys.stdout.write(json.dumps(result) + "\n")
