"""What the demo shows while it runs: a live view on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli.fleet.tracking import HOPS, Tracker

_LINE_EVERY_S = 5.0
_SCALINGS = 4
_STYLES = {"Running": "green", "Pending": "yellow", "Rejected": "red", "Degraded": "red", "Failed": "bold red"}


class Display:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._said_at = float("-inf")
        self._scalings = 0

    def say(self, text: str) -> None:
        self._console.print(f"[bold]flotilla[/bold] {text}", highlight=False, soft_wrap=True)

    def progress(self, step: str, done: int, total: int) -> None:
        """Long preparations: each step is said once, when it begins."""
        if done == 0 and total:
            self.say(step)

    @contextmanager
    def live(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=4, transient=False) as self._live:
            yield
        self._live = None

    def update(self, tracker: Tracker, elapsed_s: float, note: str) -> None:
        if self._live is not None:
            head = Text(f"{elapsed_s:5.0f} s  {note}", style="bold")
            self._live.update(Group(head, phases(tracker), scalings(tracker), hops(tracker)))
            return
        for item in tracker.scalings[self._scalings :]:
            self.say(f"{elapsed_s:4.0f} s  {item.key}: {item.before} → {item.replicas} replicas, {item.reason}")
        self._scalings = len(tracker.scalings)
        if elapsed_s - self._said_at >= _LINE_EVERY_S:
            self._said_at = elapsed_s
            counts = ", ".join(f"{count} {phase}" for phase, count in sorted(tracker.phases.items()))
            self.say(f"{elapsed_s:4.0f} s  {note}: {counts or 'nothing yet'}")


def phases(tracker: Tracker) -> Table:
    table = Table("phase", "workloads", title="workloads", title_justify="left")
    for phase, count in sorted(tracker.phases.items()):
        table.add_row(Text(phase, style=_STYLES.get(phase, "")), str(count))
    return table


def scalings(tracker: Tracker) -> Table:
    """What the autoscaler asked for last."""
    table = Table("workload", "replicas", "why", title="scaled", title_justify="left")
    for item in tracker.scalings[-_SCALINGS:]:
        table.add_row(item.key, f"{item.before} → {item.replicas}", item.reason)
    return table


def hops(tracker: Tracker) -> Table:
    """Latency of each hop in milliseconds."""
    table = Table("hop", "count", "p50 ms", "p99 ms", "max ms", title="latency", title_justify="left")
    latencies = tracker.latencies()
    for hop in HOPS:
        if hop in latencies:
            row = latencies[hop]
            table.add_row(
                hop.replace("_", " "),
                f"{row['count']:.0f}",
                f"{row['p50_ms']:.0f}",
                f"{row['p99_ms']:.0f}",
                f"{row['max_ms']:.0f}",
            )
    return table
