"""What several integration tests need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from shared.runtime.embedded import EmbeddedKafka


@pytest_asyncio.fixture
async def broker(kafka_bootstrap: str, tmp_path: Path) -> AsyncIterator[EmbeddedKafka]:
    """One of the test's own, since it is killed, or others have workloads in theirs; `kafka_bootstrap` says whether the
    machine can run one.
    """
    assert kafka_bootstrap
    kafka = EmbeddedKafka(tmp_path / "kafka")
    await kafka.start()
    yield kafka
    await kafka.stop()
