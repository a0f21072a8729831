"""A feed of one cluster: what list and watch deliver, as stimuli."""

from __future__ import annotations

import random
from contextlib import aclosing
from typing import Protocol

from services.executor.decision.instructions import Watch
from services.executor.decision.stimuli import (
    FeedBroken,
    KindNotServed,
    KindServed,
    ListFinished,
    ListStarted,
    ObjectGone,
    ObjectSeen,
)
from shared.kernel.machine import Stimulus
from shared.model.identities import APPLIED_BY, APPLIED_BY_LABEL
from shared.ports.clock import Clock
from shared.ports.cluster_api import EVERYTHING, ApiError, Change, ChangeType, ClusterApi, Selection
from shared.runtime.ids import new_id

OWNED = Selection(labels=f"{APPLIED_BY_LABEL}={APPLIED_BY}")

_LONGEST_WAIT_S = 30.0
_NOT_FOUND = 404


class Tell(Protocol):
    def __call__(self, stimulus: Stimulus, where: str) -> None: ...


async def follow(api: ClusterApi, watch: Watch, tell: Tell, clock: Clock) -> None:
    """Asks for the resource until the cluster serves it, then lists and watches it, without end."""
    feed, where, failures = watch.feed, str(watch.feed.kind), 0
    while True:
        try:
            info = await api.resource_info(watch.served.api_version, watch.served.kind)
            if feed.owned:
                tell(_served(watch, clock, namespaced=info.namespaced), where)
            selection = OWNED if feed.owned else EVERYTHING
            async with aclosing(api.list_watch_batches(info.resource, selection)) as batches:
                async for changes in batches:
                    failures = 0
                    for change in changes:
                        stimulus = _stimulus(watch, change, clock)
                        if stimulus is not None:
                            tell(stimulus, where)
        except ApiError as error:
            tell(_refused(watch, error, clock), where)
        failures += 1
        ceiling = min(_LONGEST_WAIT_S, 2.0 ** min(failures - 1, 10))
        await clock.sleep(random.uniform(ceiling / 2, ceiling))  # noqa: S311 - jitter


def _served(watch: Watch, clock: Clock, *, namespaced: bool) -> KindServed:
    return KindServed(id=new_id(), at_ms=clock.now_ms(), kind=watch.feed.kind, namespaced=namespaced)


def _refused(watch: Watch, error: ApiError, clock: Clock) -> Stimulus:
    if error.code == _NOT_FOUND and watch.feed.owned:
        return KindNotServed(id=new_id(), at_ms=clock.now_ms(), kind=watch.feed.kind, message=error.message)
    return FeedBroken(id=new_id(), at_ms=clock.now_ms(), feed=watch.feed, message=str(error))


def _stimulus(watch: Watch, change: Change, clock: Clock) -> Stimulus | None:
    """What a change means; None for bookmarks, and for a watch that goes on where it was."""
    stimulus_id, now, feed = new_id(), clock.now_ms(), watch.feed
    match change.type:
        case ChangeType.LISTED | ChangeType.ADDED | ChangeType.MODIFIED:
            return ObjectSeen(id=stimulus_id, at_ms=now, feed=feed, raw=change.raw)
        case ChangeType.DELETED:
            return ObjectGone(id=stimulus_id, at_ms=now, feed=feed, raw=change.raw)
        case ChangeType.SYNC_STARTED:
            return ListStarted(id=stimulus_id, at_ms=now, feed=feed)
        case ChangeType.SYNC_FINISHED:
            return ListFinished(id=stimulus_id, at_ms=now, feed=feed, resource_version=change.resource_version)
        case ChangeType.INTERRUPTED:
            return FeedBroken(id=stimulus_id, at_ms=now, feed=feed, message=str(change.error))
    return None
