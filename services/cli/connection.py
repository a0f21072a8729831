"""What every command of `flotilla` that asks the log has in common: its arguments' names, the log, and how it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import typer
from rich.console import Console

from shared.adapters.kafka import KafkaLog
from shared.events.topics import Topic
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
async def connected(*needed: Topic) -> AsyncIterator[KafkaLog]:
    """The log, which has these topics. Raises LogError where it has not: whoever asks has no right to make them."""
    options = kafka_options(CommonSettings())
    log = await KafkaLog.connect(options, CLIENT)
    try:
        for topic in needed:
            if not await log.partitions(topic.name):
                raise LogError(
                    f"{options.bootstrap} has no topic {topic.name}: no control plane of Flotilla ever ran on it. The "
                    "scheduler and the hub make the topics when they start: python -m services.scheduler"
                )
        yield log
    finally:
        await log.close()
