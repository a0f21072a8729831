"""The command `flotilla demo` (`make demo`)."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from services.cli.demo.display import Display
from services.cli.demo.run import Demo, DemoOptions
from services.cli.fleet import FleetError
from services.cli.fleet.clusters import ClusterSource, RealClusters, SimulatedClusters
from shared.ports.event_log import LogError
from shared.runtime.embedded import EmbeddedError

CLUSTERS = Path(__file__).with_name("clusters.yaml")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """`90`, `60s`, `5m` or `1h` in seconds. Raises typer.BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None or float(match[1]) <= 0:
        raise typer.BadParameter(f"{text!r} is not a duration: want for example 60s or 5m")
    return float(match[1]) * _UNITS[match[2]]


def demo(
    limit: Annotated[str | None, typer.Option("--for", help="Run unattended for this long, e.g. 60s or 5m.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a JSON report to this file.")] = None,
    clusters: Annotated[
        Literal["simulated", "real"], typer.Option(help="Simulated clusters, or the real test bed (needs Go once).")
    ] = "simulated",
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Requests a second.")] = 4.0,
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many requests.")] = 200,
    seed: Annotated[int, typer.Option(help="Another seed, another stream.")] = 1,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Keep data and logs here; by default they go when the demo ends.")
    ] = None,
) -> None:
    """Run a whole fleet on this machine: three clusters, every service, and a stream of workloads."""
    seconds = parse_duration(limit) if limit is not None else None
    display = Display(Console(stderr=True))
    work = directory or Path(tempfile.mkdtemp(prefix="flotilla-demo-"))
    options = DemoOptions(
        directory=work.absolute(),
        clusters=_source(clusters, work.absolute()),
        clusters_kind=clusters,
        for_s=seconds,
        rate=rate,
        requests=requests,
        seed=seed,
    )
    try:
        result = asyncio.run(Demo(options, display).run())
    except (FleetError, EmbeddedError, LogError) as error:
        display.say(f"[red]failed[/red]: {error}")
        display.say(f"logs are kept in {work}")
        raise typer.Exit(1) from error
    if report is not None:
        report.write_text(json.dumps(result.document, indent=2) + "\n")
        display.say(f"report written to {report}")
    if result.ok or seconds is None:
        if directory is None:
            shutil.rmtree(work)
        return
    for problem in result.document["errors"]:
        display.say(f"[red]problem[/red] {problem}")
    display.say(f"logs are kept in {work}")
    raise typer.Exit(1)


def _source(kind: str, directory: Path) -> ClusterSource:
    if kind == "real":
        return RealClusters(directory / "clusters")
    return SimulatedClusters(directory / "clusters", CLUSTERS)
