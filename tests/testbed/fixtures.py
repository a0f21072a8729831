"""pytest fixtures: a shared cluster for the session, and a function that makes more.

Where the binaries are not built, tests that want a cluster are skipped with the reason; in CI (`CI=true`) they fail,
since a test bed that is silently absent would prove nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from tests.testbed.cluster import RealCluster
from tests.testbed.installation import MissingBinariesError, binaries, wire_sources

T = TypeVar("T")
MakeCluster = Callable[[RealCluster], Awaitable[RealCluster]]


def needed(find: Callable[[], T]) -> T:
    """What `find` finds; where it is not built the test is skipped, and fails in CI."""
    try:
        return find()
    except MissingBinariesError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def testbed_binaries() -> Mapping[str, Path]:
    """Name → path of every binary."""
    return needed(binaries)


@pytest.fixture(scope="session")
def kubernetes_wire_sources() -> Path:
    """Where the sources of Kubernetes' protobuf are, in folders as a Go module cache has them."""
    return needed(wire_sources)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_cluster(testbed_binaries: Mapping[str, Path]) -> AsyncIterator[RealCluster]:
    """One complete cluster with three nodes and metrics for the whole session; leave it as you found it."""
    async with RealCluster("shared", nodes=3, with_metrics=True) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def start_cluster(testbed_binaries: Mapping[str, Path]) -> AsyncIterator[MakeCluster]:
    """Starts clusters of the test's own, as many as it likes, and stops them when it ends."""
    started: list[RealCluster] = []

    async def start(cluster: RealCluster) -> RealCluster:
        started.append(cluster)
        await cluster.start()
        return cluster

    yield start
    await asyncio.gather(*(cluster.stop() for cluster in started))
