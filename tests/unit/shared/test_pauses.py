"""A stop ends every wait, however often what is waited for has failed."""

from __future__ import annotations

import asyncio

import pytest

from shared.runtime import pauses


async def test_a_stop_cuts_a_back_off_short() -> None:
    stop = asyncio.Event()
    waiting = asyncio.create_task(pauses.back_off(stop, failures=1000))
    await asyncio.sleep(0)
    stop.set()
    async with asyncio.timeout(10):
        await waiting


@pytest.mark.parametrize(("failures", "longest"), [(1, 0.5), (3, 2.0), (1000, 15.0)])
async def test_it_grows_up_to_a_bound(failures: int, longest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def noted(_: asyncio.Event, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(pauses, "pause", noted)
    await pauses.back_off(asyncio.Event(), failures)
    assert longest / 2 <= waited[0] <= longest
