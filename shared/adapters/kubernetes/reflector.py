"""Carries out what the list-watch driver says: the only part of list and watch that touches the network."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import aiohttp

from shared.adapters.kubernetes.driver import FetchPage, ListWatchDriver, ListWatchPolicy, OpenWatch, Pause
from shared.adapters.kubernetes.transport import Transport
from shared.ports.cluster_api import ApiError, Change, Selection

# The pauses between attempts need no secret.
_random = random.Random()  # noqa: S311


async def list_watch(
    transport: Transport, path: str, selection: Selection, policy: ListWatchPolicy
) -> AsyncGenerator[Sequence[Change], None]:
    """Lists and watches without end, a page or a chunk at a time.

    Nothing is read ahead of the consumer but the connection's one buffer: a slow consumer slows the server.
    """
    driver = ListWatchDriver(_random.random, selection, policy)
    while True:
        step = driver.next_step()
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, FetchPage):
            yield await _fetch(transport, path, step, driver)
        else:
            async with aclosing(_watch(transport, path, step, driver)) as batches:
                async for changes in batches:
                    if changes:
                        yield changes


async def _fetch(transport: Transport, path: str, step: FetchPage, driver: ListWatchDriver) -> list[Change]:
    try:
        body = await transport.request("GET", path, query=step.query, deadline_s=step.deadline_s)
    except ApiError as error:
        return driver.failed(error)
    return driver.page_received(body)


async def _watch(
    transport: Transport, path: str, step: OpenWatch, driver: ListWatchDriver
) -> AsyncGenerator[list[Change], None]:
    """The changes of one watch, chunk by chunk, until it ends in whatever way."""
    started = time.monotonic()
    try:
        async with transport.stream(path, step.query, silence_s=step.silence_s) as content:
            yield driver.watch_opened()
            while chunk := await content.readany():
                yield driver.data_received(chunk)
                if driver.finished:
                    return
                if driver.listing and time.monotonic() - started > step.list_deadline_s:
                    yield driver.watch_silent()
                    return
    except ApiError as error:
        yield driver.failed(error)
    except TimeoutError:
        yield driver.watch_silent()
    except (aiohttp.ClientError, OSError) as error:
        yield driver.failed(ApiError(0, "Unreachable", f"watch of {path}: {type(error).__name__}: {error}"))
    else:
        yield driver.watch_closed(time.monotonic() - started)
