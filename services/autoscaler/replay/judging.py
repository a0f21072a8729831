"""Derives each decision again from what it says that it was made from, and compares what comes of it.

Each stands for itself, but for one thing: what an autoscaler says to have decided before has to be the decision that
stands before. So one that is missing is found as well, within the life of one autoscaler; a successor begins with what
was told (`fleet.scaling`), which its predecessor may not have come to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from services.autoscaler.decision import basis
from services.autoscaler.decision.horizontal.terms import Defaults
from shared.events.registry import DecodeError, decode
from shared.events.topics import SCALING_DECIDED
from shared.events.v1.scaling_decisions import ScalingDecided
from shared.kernel.replay import Outcome, Verdict, difference
from shared.ports.event_log import Record

SCALED = "scaled"


class _Last(NamedTuple):
    """The last decision on a workload: whose it was, on which workload and pod set, and how many it asked for."""

    life: str
    uid: str
    pod_set: str
    replicas: int | None


class Judge:
    """To be given all records of the journal, in their order."""

    def __init__(self, defaults: Defaults) -> None:
        self._defaults = defaults
        self._config = basis.config_hash(defaults)
        self._last: dict[str, _Last] = {}
        self._kinds: dict[bytes, Callable[[Record], Verdict]] = {SCALING_DECIDED.ce_type.encode(): self._scaled}

    def judge(self, record: Record) -> Iterator[Verdict]:
        """Of a decision of the autoscaler; of all else nothing."""
        judge = self._kinds.get(record.header("ce_type") or b"")
        if judge is None:
            return
        try:
            yield judge(record)
        except DecodeError as error:
            key, kind = (record.key or b"").decode(errors="replace"), "unknown"
            yield Verdict(record.offset, key, kind, Outcome.UNCHECKED, f"it cannot be read: {error}")

    def _scaled(self, record: Record) -> Verdict:
        decided = decode(ScalingDecided, record.value)
        missing = self._before(decided)
        if missing:
            outcome, detail = Outcome.DIFFERENT, missing
        else:
            outcome, detail = self._derived(decided)
        return Verdict(record.offset, decided.workload, SCALED, outcome, detail)

    def _before(self, decided: ScalingDecided) -> str:
        """Whether what is said to have been decided before was; empty if it was, or nobody can say."""
        (pod_set,) = decided.scaled.pod_sets
        this = _Last(decided.basis.life, decided.scaled.uid, pod_set.name, pod_set.replicas)
        last = self._last.get(decided.workload)
        self._last[decided.workload] = this
        former = decided.basis.former
        if last is None or last[:3] != this[:3] or former is None or former == last.replicas:
            return ""
        return f"basis.former: {former}, not {last.replicas}, as the decision before it says"

    def _derived(self, decided: ScalingDecided) -> tuple[Outcome, str]:
        made = decided.basis
        if made.config != self._config:
            return Outcome.UNCHECKED, f"the configuration was another ({made.config}, now {self._config})"
        if not made.whole:
            return Outcome.UNCHECKED, "not all that it was made from is in it: there was too much of that"
        if (spec := basis.spec_hash(made.scaling)) != made.spec:
            return Outcome.DIFFERENT, f"basis.spec: {made.spec}, not {spec}"
        try:
            scaled, state = basis.derive(decided, self._defaults)
        except ValueError as error:
            return Outcome.DIFFERENT, f"basis: {error}"
        where = difference(decided.scaled, scaled)
        if not where and state != made.state:
            where = f"basis.state: {made.state}, not {state}"
        return (Outcome.DIFFERENT, where) if where else (Outcome.EQUAL, "")
