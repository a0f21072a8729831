"""The only place where the scheduler's settings become adapters."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

from services.scheduler.decision.config import Amounts, QueueConfig, SchedulerConfig
from services.scheduler.plugins import with_plugins
from services.scheduler.priority_classes import priority_classes
from services.scheduler.settings import SchedulerSettings
from services.scheduler.shell import SchedulerService
from shared.adapters.clock import SystemClock
from shared.events.topics import ALL_TOPICS
from shared.model.pods import WHOLE_DEVICE
from shared.model.quantities import resource_amount
from shared.ports.clock import Clock
from shared.ports.event_log import EventLog
from shared.runtime.connections import open_log


async def build(settings: SchedulerSettings, stack: AsyncExitStack) -> SchedulerService:
    events = await open_log(settings, "scheduler", stack)
    await events.ensure_topics(ALL_TOPICS)
    return assemble(settings, events, SystemClock())


def assemble(settings: SchedulerSettings, events: EventLog, clock: Clock) -> SchedulerService:
    """The service on any log, its topics being there."""
    return SchedulerService(events, clock, settings, configuration(settings))


def queues_of(settings: SchedulerSettings) -> tuple[QueueConfig, ...]:
    """In the order of their names, whatever that of the setting. Raises ValueError."""
    gpu = SchedulerConfig().gpu_resource

    def amounts(given: Mapping[str, str]) -> Amounts:
        units = ((name, resource_amount(name, given[name])) for name in sorted(given))
        return tuple((name, amount * WHOLE_DEVICE if name == gpu else amount) for name, amount in units)

    return tuple(
        QueueConfig(name, item.weight, amounts(item.guarantee), amounts(item.limit))
        for name, item in sorted(settings.scheduler_queues.items())
    )


def configuration(settings: SchedulerSettings) -> SchedulerConfig:
    """Raises PluginsError or ValueError for settings that make none."""
    config = SchedulerConfig(
        move_after_ms=round(settings.scheduler_move_after_s * 1000),
        gang_patience_ms=round(settings.scheduler_gang_patience_s * 1000),
        largest_first_ms=round(settings.scheduler_largest_first_s * 1000),
        tolerate_loss_ms=round(settings.scheduler_tolerate_loss_s * 1000),
        evacuations_per_s=settings.scheduler_evacuations_per_s,
        evacuations_at_once=settings.scheduler_evacuations_at_once,
        cluster_evacuations_at_once=settings.scheduler_cluster_evacuations_at_once,
        most_lost=settings.scheduler_most_lost,
        lease_margin_ms=round(settings.scheduler_lease_margin_s * 1000),
        stable_ms=round(settings.scheduler_stable_s * 1000),
        rebalances_per_minute=settings.scheduler_rebalances_per_minute,
        queues=queues_of(settings),
    )
    config = replace(config, priority_classes=priority_classes(settings.scheduler_priority_classes))
    return with_plugins(config, settings.scheduler_plugins, settings.scheduler_weights)
