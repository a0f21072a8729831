"""`python -m shared.runtime.topics` makes the topics that are missing, and ends: the control plane chart's hook.

It reads the services' FLOTILLA_KAFKA_* variables and may run again at any time. What is there it leaves as it is.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from shared.events.topics import ALL_TOPICS
from shared.observability.logs import configure_logs, get_logger
from shared.ports.event_log import LogError
from shared.runtime.connections import open_log
from shared.runtime.service import EXIT_FAILED
from shared.runtime.settings import CommonSettings

log = get_logger(__name__)


async def ensure(settings: CommonSettings) -> int:
    """The exit code. Each request to the broker has the settings' deadline."""
    try:
        async with AsyncExitStack() as stack:
            events = await open_log(settings, "topics", stack)
            await events.ensure_topics(ALL_TOPICS)
    except LogError as error:
        log.error("the topics are not all there", error=str(error))  # noqa: TRY400 - the message says it all
        return EXIT_FAILED
    log.info("the topics are there", topics=len(ALL_TOPICS))
    return 0


def main() -> int:
    settings = CommonSettings()
    configure_logs("topics", level=settings.log_level, fmt=settings.log_format)
    return asyncio.run(ensure(settings))


if __name__ == "__main__":
    sys.exit(main())
