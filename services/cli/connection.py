"""What every command of `flotilla` that asks the log has in common: its arguments' names, the log, and how it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import typer
from rich.console import Console

from shared.adapters.kafka import KafkaLog
from shared.model.identities import WorkloadKey
from shared.ports.event_log import LogError
from shared.runtime.connections import kafka_options
from shared.runtime.settings import CommonSettings

T = TypeVar("T")
CLIENT = "flotilla-cli"


def workload_key(text: str) -> WorkloadKey:
    """A name without a namespace is one in `default`. Raises BadParameter."""
    try:
        return WorkloadKey.parse(text if "/" in text else f"default/{text}")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def run(work: Coroutine[Any, Any, T]) -> T:
    """To its end. Says why the log could not be asked, and exits with 1."""
    try:
        return asyncio.run(work)
    except LogError as error:
        Console(stderr=True).print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error


@asynccontextmanager
async def connected() -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.connect(kafka_options(CommonSettings()), CLIENT)
    try:
        yield log
    finally:
        await log.close()
