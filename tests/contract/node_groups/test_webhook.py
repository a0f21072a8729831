"""What is the webhook's own: signatures, repeats, deadlines, and answers that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from shared.adapters.clock import SystemClock
from shared.adapters.node_groups import Providers
from shared.events.v1.commands import NodeGroupOrder
from shared.model.node_groups import FORBIDDEN, PROVIDER_UNAVAILABLE, REFUSED
from shared.ports.cluster_api import ClusterApi
from shared.ports.node_groups import ProviderError
from tests.contract.node_groups.webhook import KEY, Webhook, provider_at, serving

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Served:
    webhook: Webhook
    url: str
    session: aiohttp.ClientSession
    key_file: Path


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    key_file, webhook = tmp_path / "nodes", Webhook("small")
    key_file.write_bytes(KEY)
    async with aiohttp.ClientSession() as session, serving(webhook.application()) as url:
        yield Served(webhook, url, session, key_file)


async def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_order(served: Served) -> None:
    served.webhook.failing = [503, 429]
    await provider_at(served.url, served.session, served.key_file, "small").resize(2)
    assert served.webhook.size == 2
    assert len(served.webhook.orders) == 3
    assert len(set(served.webhook.orders)) == 1


async def test_another_call_is_another_order_and_attempts_end(served: Served) -> None:
    provider = provider_at(served.url, served.session, served.key_file, "small")
    await provider.resize(2)
    served.webhook.failing = [500] * 10
    with pytest.raises(ProviderError) as refused:
        await provider.resize(2)
    assert refused.value.reason == PROVIDER_UNAVAILABLE
    assert len(served.webhook.orders) == 4
    assert len(set(served.webhook.orders)) == 2


async def test_who_has_another_key_is_forbidden(served: Served) -> None:
    provider = provider_at(served.url, served.session, served.key_file, "small")
    served.key_file.write_bytes(b"another")
    with pytest.raises(ProviderError) as refused:
        await provider.resize(2)
    assert refused.value.reason == FORBIDDEN
    assert served.webhook.size == 0
    served.key_file.unlink()
    with pytest.raises(ProviderError, match="cannot be read") as refused:
        await provider.resize(2)
    assert refused.value.reason == FORBIDDEN


async def test_what_refuses_is_not_asked_again(served: Served) -> None:
    served.webhook.failing = [422]
    with pytest.raises(ProviderError) as refused:
        await provider_at(served.url, served.session, served.key_file, "small").resize(2)
    assert refused.value.reason == REFUSED
    assert len(served.webhook.orders) == 1


def answering(path: str, handler: Handler) -> web.Application:
    application = web.Application()
    application.router.add_post(path, handler)
    return application


@pytest.mark.parametrize("body", [b"{}", b"[]", b"not json", b'{"size": -1}', b"x" * (5 * 1024 * 1024)])
async def test_an_answer_that_is_none_is_no_state(served: Served, body: bytes) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    async with serving(answering("/state", answer)) as url:
        with pytest.raises(ProviderError) as refused:
            await provider_at(url, served.session, served.key_file, "small").state(())
    assert refused.value.reason == PROVIDER_UNAVAILABLE


async def test_a_redirect_is_not_followed(served: Served) -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"{served.url}/resize")

    async with serving(answering("/resize", elsewhere)) as url:
        with pytest.raises(ProviderError):
            await provider_at(url, served.session, served.key_file, "small").resize(2)
    assert served.webhook.orders == []


async def test_who_does_not_answer_is_waited_for_until_the_deadline(served: Served) -> None:
    released = asyncio.Event()

    async def never(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with serving(answering("/resize", never)) as url:
        with pytest.raises(ProviderError, match=r"no answer within 0\.3 s") as refused:
            await provider_at(url, served.session, served.key_file, "small", deadline_s=0.3).resize(2)
        released.set()
    assert refused.value.reason == PROVIDER_UNAVAILABLE


async def test_without_a_directory_of_keys_no_webhook_is_called() -> None:
    order = NodeGroupOrder.model_validate(
        {
            "group": "small",
            "provider": {"kind": "webhook", "url": "http://127.0.0.1:9", "secret": "nodes"},
            "template": {"allocatable": {"cpu": 1, "memory": "1Gi", "pods": 10}},
            "size": 1,
        }
    )
    with pytest.raises(ProviderError, match="FLOTILLA_EXECUTOR_SECRETS_DIR"):
        await Providers(SystemClock()).of(order, "east", cast("ClusterApi", None))
