"""`flotilla dev`: a real Kafka and a real Valkey on this machine, without installing either.

What is meant for other programs (the `export` lines) goes to standard output, everything for people to standard error,
so `eval "$(flotilla dev up)"` works. Exit codes: 0 as asked, 1 failed, 3 (`status`) not running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared.runtime.embedded.errors import EmbeddedError
from shared.runtime.embedded.stack import KAFKA_PORT, REDIS_PORT, DevStack, ServerName, ServerStatus, UpResult

NOT_RUNNING = 3

T = TypeVar("T")

app = typer.Typer(help="A real Kafka and a real Valkey on this machine.", no_args_is_help=True)

_console = Console(stderr=True)
_TITLES: dict[ServerName, str] = {"kafka": "Kafka", "valkey": "Valkey"}

Directory = Annotated[
    Path,
    typer.Option("--dir", envvar="FLOTILLA_DEV_DIR", help="Where the servers keep data, logs and state."),
]
_DEFAULT_DIRECTORY = Path.home() / ".local" / "share" / "flotilla" / "dev"


@app.command()
def up(
    directory: Directory = _DEFAULT_DIRECTORY,
    kafka_port: Annotated[
        int, typer.Option(min=1, max=65535, help="A free one is taken if it is in use.")
    ] = KAFKA_PORT,
    redis_port: Annotated[
        int, typer.Option(min=1, max=65535, help="A free one is taken if it is in use.")
    ] = REDIS_PORT,
) -> None:
    """Start Kafka and Valkey, or confirm that they run, and print how services find them."""
    with _Bars() as bars:
        stack = DevStack(directory, progress=bars.show)
        result = _guarded(lambda: asyncio.run(stack.up(kafka_port=kafka_port, redis_port=redis_port)))
    _explain(result, {"kafka": kafka_port, "valkey": redis_port})
    for name, value in result.state.environment().items():
        print(f"export {name}={value}")


@app.command()
def status(directory: Directory = _DEFAULT_DIRECTORY) -> None:
    """Show what runs. Exits with 3 unless both servers do."""
    servers = _guarded(lambda: asyncio.run(DevStack(directory).status()))
    table = Table("server", "state", "address", "pid", "memory")
    for server in servers:
        record = server.record if server.alive else None
        table.add_row(
            _TITLES[server.name],
            _state(server),
            record.address if record else "-",
            str(record.pid) if record else "-",
            f"{server.memory_bytes // 1_000_000} MB" if server.memory_bytes else "-",
        )
    Console().print(table)
    if not all(server.serving for server in servers):
        raise typer.Exit(NOT_RUNNING)


@app.command()
def down(
    directory: Directory = _DEFAULT_DIRECTORY,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove all data of both servers as well.")] = False,
) -> None:
    """Stop both servers; their data stays unless `--wipe` is given."""
    stopped = _guarded(lambda: asyncio.run(DevStack(directory).down(wipe=wipe)))
    what = " and ".join(_TITLES[name] for name in stopped)
    _console.print(f"{what} stopped." if stopped else "Nothing was running.")
    if wipe:
        _console.print(f"Data in {escape(str(directory))} removed.", soft_wrap=True)


def _explain(result: UpResult, wishes: dict[ServerName, int]) -> None:
    for name in ("kafka", "valkey"):
        record = result.state.record(name)
        if record is None:  # `up` has started it or failed
            raise AssertionError(name)
        verb = "started" if name in result.started else "was already running"
        _console.print(f"{_TITLES[name]} {verb} on {record.address} (pid {record.pid}).")
        if name in result.moved:
            _console.print(f"[yellow]Port {wishes[name]} is in use by another program, so it got {record.port}.")
        elif record.port != wishes[name]:
            _console.print(f"[yellow]It keeps port {record.port}; `flotilla dev down` first to change that.")


def _state(server: ServerStatus) -> str:
    if server.serving:
        return "running"
    return "not answering" if server.alive else "stopped"


def _guarded(action: Callable[[], T]) -> T:
    """Run it; what goes wrong with the servers is a message and exit code 1, not a traceback."""
    try:
        return action()
    except EmbeddedError as error:
        _console.print(f"[red]{escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from error


class _Bars:
    """One progress bar for each step, made when the step first reports."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=_console, transient=True
        )
        self._tasks: dict[str, TaskID] = {}

    def show(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._tasks[step], completed=done)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()
