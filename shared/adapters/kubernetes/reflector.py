"""Carries out what the list-watch driver says: the only part of list and watch that touches the network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import aiohttp

from shared.adapters.kubernetes.driver import FetchPage, ListWatchDriver, ListWatchPolicy, OpenWatch, Pause
from shared.adapters.kubernetes.transport import ApiTransport
from shared.ports.cluster_api import ApiError, Change, Selection


async def list_watch(
    transport: ApiTransport, path: str, selection: Selection, policy: ListWatchPolicy
) -> AsyncGenerator[Sequence[Change], None]:
    """Lists and watches without end, a page or a chunk at a time.

    Nothing is read ahead of the consumer but the connection's one buffer: a slow consumer slows the server.
    """
    driver = ListWatchDriver(random.random, selection, policy)
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


async def _fetch(transport: ApiTransport, path: str, step: FetchPage, driver: ListWatchDriver) -> list[Change]:
    try:
        body = await transport.request("GET", path, query=step.query, deadline_s=step.deadline_s)
    except ApiError as error:
        return driver.failed(error)
    return driver.page_received(body)


async def _watch(
    transport: ApiTransport, path: str, step: OpenWatch, driver: ListWatchDriver
) -> AsyncGenerator[list[Change], None]:
    """The changes of one watch, chunk by chunk, until it ends in whatever way."""
    clock = asyncio.get_running_loop().time
    started = clock()
    try:
        async with transport.stream(path, step.query, silence_s=step.silence_s) as content:
            yield driver.watch_opened()
            while chunk := await content.readany():
                yield driver.data_received(chunk)
                if driver.finished:
                    return
                if driver.listing and clock() - started > step.list_deadline_s:
                    yield driver.watch_silent()
                    return
    except ApiError as error:
        yield driver.failed(error)
    except TimeoutError:
        yield driver.watch_silent()
    except (aiohttp.ClientError, OSError) as error:
        yield driver.failed(ApiError(0, "Unreachable", f"watch of {path}: {type(error).__name__}: {error}"))
    else:
        yield driver.watch_closed(clock() - started)
