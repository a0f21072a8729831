"""`python -m shared.runtime.topics` makes the topics that are missing, and ends: the control plane chart's hook.

It reads the services' FLOTILLA_KAFKA_* variables and two of its own, and may run again at any time. Topics that are
there it leaves as they are; ACLs are only ever added.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from pydantic import Field

from shared.adapters.kafka.acls import ensure_acls
from shared.events.acls import acls_for
from shared.events.topics import ALL_TOPICS
from shared.model.names import dns_label_error
from shared.observability.logs import configure_logs, get_logger
from shared.ports.event_log import LogError
from shared.runtime.connections import kafka_options, open_log
from shared.runtime.service import EXIT_FAILED, EXIT_USAGE
from shared.runtime.settings import CommonSettings

log = get_logger(__name__)


class TopicsSettings(CommonSettings):
    topics_acls: bool = Field(default=False, description="also allow each account what deploy/kafka/acls.yaml says")
    topics_clusters: str = Field(default="", description="clusters whose executors are allowed theirs, by commas")

    def clusters(self) -> list[str]:
        return [name for name in (part.strip() for part in self.topics_clusters.split(",")) if name]


async def ensure(settings: TopicsSettings) -> int:
    """The exit code. Each request to the broker has the settings' deadline."""
    try:
        async with AsyncExitStack() as stack:
            events = await open_log(settings, "topics", stack)
            await events.ensure_topics(ALL_TOPICS)
            allowed = 0
            if settings.topics_acls:
                allowed = await ensure_acls(kafka_options(settings), acls_for(settings.clusters()))
    except LogError as error:
        log.error("not everything is there", error=str(error))  # noqa: TRY400 - the message says it all
        return EXIT_FAILED
    log.info("the topics are there", topics=len(ALL_TOPICS), allowed=allowed)
    return 0


def main() -> int:
    settings = TopicsSettings()
    configure_logs("topics", level=settings.log_level, fmt=settings.log_format)
    if wrong := [name for name in settings.clusters() if dns_label_error(name)]:
        log.error("no names of clusters", variable="FLOTILLA_TOPICS_CLUSTERS", names=wrong)
        return EXIT_USAGE
    return asyncio.run(ensure(settings))


if __name__ == "__main__":
    sys.exit(main())
