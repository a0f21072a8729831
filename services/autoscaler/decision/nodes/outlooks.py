"""Whether nodes come for the workloads that wait: what a plan means for each (`fleet.waiting`), and what of it is news.

Of many plans in a row most say the same of a workload. So nothing that changes with every plan stands in what is told:
no numbers of pods or nodes, which the workload's own status has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from services.autoscaler.decision.nodes.growing import Growth
from services.autoscaler.decision.nodes.judging import Lack
from services.autoscaler.decision.nodes.seen import GroupKey, PodSet
from services.autoscaler.decision.nodes.waiting import Owner
from shared.events.v1 import waiting
from shared.events.v1.waiting import NodesAwaited
from shared.model.node_groups import OUT_OF_STOCK

_MOST_GROUPS: Final = 4


class Outlook(NamedTuple):
    """What a plan means for pods that wait. `reason` is one of `shared.events.v1.waiting`."""

    coming: bool
    reason: str
    message: str


ORDERED: Final = Outlook(
    True, waiting.ORDERED, "nodes that are there, on their way, or were ordered have room for all that wait"
)


def outlooks_of(pending: Iterable[PodSet], growth: Growth, failures: Mapping[GroupKey, str]) -> dict[str, Outlook]:
    """By the key of each pod set that waits. `failures`: by group, why what was asked for last did not come."""
    found = {item.key: ORDERED for item in pending}
    for item in growth.unplaced:
        found[item.pod_set] = _lacking(item.lack, failures)
    return found


def _lacking(lack: Lack, failures: Mapping[GroupKey, str]) -> Outlook:
    """Of groups that are left alone with what was said of them; who has none is told from who fails."""
    said = [(group, failures[group]) for group in lack.closed if group in failures]
    failed = bool(said) and not any(why.partition(":")[0] == OUT_OF_STOCK for _, why in said)
    words = [f"{group.cluster}/{group.name}: {why}" for group, why in said[:_MOST_GROUPS]]
    if len(said) > _MOST_GROUPS:
        words.append(f"and {len(said) - _MOST_GROUPS} more groups")
    return Outlook(False, waiting.PROVIDER_FAILED if failed else lack.kind, "; ".join((lack.text, *words)))


class Outlooks:
    """What was told last, by workload: as many as wait."""

    def __init__(self) -> None:
        self._told: dict[str, NodesAwaited] = {}

    def restore(self, workload: str, told: NodesAwaited | None) -> None:
        """A record of `fleet.waiting`, at the start. None is a tombstone."""
        if told is None:
            self._told.pop(workload, None)
        else:
            self._told[workload] = told

    def news(
        self, found: Mapping[str, Outlook], owners: Mapping[str, Owner], now_ms: int
    ) -> Iterator[tuple[str, NodesAwaited | None]]:
        """What is another than was told, after a plan: `found` by pod set, and whose pod sets these are, where they are
        any workload's. None of a workload that waits no more. Call when the last ones are in the log.
        """
        after = dict(_of_workloads(found, owners, now_ms))
        for workload in sorted(self._told.keys() - after.keys()):
            del self._told[workload]
            yield workload, None
        for workload, said in after.items():
            former = self._told.get(workload)
            if former is None or former.model_copy(update={"planned_at": now_ms}) != said:
                self._told[workload] = said
                yield workload, said


def _of_workloads(
    found: Mapping[str, Outlook], owners: Mapping[str, Owner], now_ms: int
) -> Iterator[tuple[str, NodesAwaited]]:
    """Of several pod sets the first for which not enough nodes come."""
    worst: dict[Owner, tuple[str, Outlook]] = {}
    for pod_set in sorted(found.keys() & owners.keys()):
        owner, outlook = owners[pod_set], found[pod_set]
        if owner not in worst or (worst[owner][1].coming and not outlook.coming):
            worst[owner] = pod_set, outlook
    for owner, (pod_set, outlook) in worst.items():
        name = "" if outlook.coming else f"{pod_set.removeprefix(f'{owner.workload}/')}: "
        yield (
            owner.workload,
            NodesAwaited(
                uid=owner.uid,
                coming=outlook.coming,
                reason=outlook.reason,
                message=f"{name}{outlook.message}",
                planned_at=now_ms,
            ),
        )
