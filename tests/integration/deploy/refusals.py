"""Every request that an API server knows, asked as one account: what is refused, and what is not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from tests.integration.deploy.accounts import Grant
from tests.testbed.cluster import RealCluster

# By verb: the method, whether one object is named, and what is asked beside.
_REQUESTS: Final = {
    "get": ("GET", True, ""),
    "list": ("GET", False, ""),
    "watch": ("GET", False, "?watch=1&timeoutSeconds=1"),
    "create": ("POST", False, ""),
    "update": ("PUT", True, ""),
    "patch": ("PATCH", True, ""),
    "delete": ("DELETE", True, ""),
    "deletecollection": ("DELETE", False, ""),
}
# What everybody may ask who is authenticated: who and what they are (`system:basic-user`).
EVERYBODYS: Final = frozenset(
    {
        ("authentication.k8s.io", "selfsubjectreviews", "create"),
        ("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
        ("authorization.k8s.io", "selfsubjectrulesreviews", "create"),
    }
)
_AT_ONCE: Final = 16
_NAME: Final = "anything"


@dataclass(frozen=True, slots=True)
class Question:
    """One verb on one resource of an API server, in the namespace `default` or in none."""

    grant: Grant
    method: str
    path: str


async def questions(cluster: RealCluster) -> list[Question]:
    """Every verb on every resource and subresource that the server's discovery documents name."""
    groups = (await cluster.api.call("GET", "/apis"))["groups"]
    roots = [("", "/api/v1")]
    roots += [(g["name"], f"/apis/{version['groupVersion']}") for g in groups for version in g["versions"]]
    found: list[Question] = []
    for group, root in roots:
        document = await cluster.api.call("GET", root)
        found += (question for item in document["resources"] for question in _of_resource(group, root, item))
    return found


def _of_resource(group: str, root: str, item: dict[str, Any]) -> Iterator[Question]:
    plural, _, subresource = item["name"].partition("/")
    place = f"{root}/namespaces/default/{plural}" if item["namespaced"] else f"{root}/{plural}"
    for verb in _REQUESTS.keys() & set(item["verbs"]):
        method, named, query = _REQUESTS[verb]
        path = f"{place}/{_NAME}" if named or subresource else place
        path = f"{path}/{subresource}" if subresource else path
        yield Question((group, item["name"], verb), method, path + query)


async def answers(cluster: RealCluster, token: str, asked: Iterable[Question]) -> dict[Question, int]:
    """The status with which each is answered; permission is looked at before anything else of a request is."""
    trust = ssl.create_default_context(cafile=str(cluster.layout.authority.certificate))
    slots = asyncio.Semaphore(_AT_ONCE)
    async with aiohttp.ClientSession(
        cluster.api.server,
        headers={"Authorization": f"Bearer {token}"},
        connector=aiohttp.TCPConnector(ssl=trust),
        timeout=aiohttp.ClientTimeout(total=30),
    ) as session:

        async def ask(question: Question) -> tuple[Question, int]:
            async with slots, session.request(question.method, question.path) as answer:
                await answer.read()
                return question, answer.status

        return dict(await asyncio.gather(*(ask(question) for question in asked)))
