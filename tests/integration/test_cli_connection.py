"""What commands say on a broker on which nothing of Flotilla ever ran."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from services.cli.connection import connected
from shared.events.topics import REQUESTS
from shared.ports.event_log import LogError

pytestmark = [pytest.mark.kafka]


async def test_who_lacks_the_topics_is_told_what_makes_them(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOTILLA_KAFKA_BOOTSTRAP", kafka_bootstrap)
    topic = replace(REQUESTS, name=f"connection.{uuid.uuid4().hex}")
    with pytest.raises(LogError, match=rf"{kafka_bootstrap} has no topic {topic.name}: .*services\.scheduler"):
        async with connected(topic):
            pytest.fail("there is nothing to read")
