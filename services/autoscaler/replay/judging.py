"""Derives each decision again from what it says that it was made from, and compares what comes of it.

Each stands for itself, but for one thing: what an autoscaler says to have decided before has to be the decision that
stands before. So one that is missing is found as well, within the life of one autoscaler; a successor begins with what
was told (`fleet.scaling`), which its predecessor may not have come to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from services.autoscaler.decision import basis
from services.autoscaler.decision.horizontal.terms import Defaults
from services.autoscaler.decision.nodes.cycle import Terms
from services.autoscaler.decision.nodes.draining import Times
from services.autoscaler.decision.nodes.recorded import Derived, config_hash, derive
from services.autoscaler.decision.vertical import applying
from services.autoscaler.decision.vertical.applying import Pace
from shared.events.registry import decode
from shared.events.topics import NODES_DECIDED, REQUESTS_DECIDED, SCALING_DECIDED
from shared.events.v1.node_decisions import NodesDecided
from shared.events.v1.node_groups import PLAN_KEY, NodeGroupPlanned
from shared.events.v1.requests_decisions import RequestsDecided
from shared.events.v1.scaling_decisions import ScalingDecided
from shared.kernel.replay import Outcome, Verdict, difference
from shared.ports.event_log import Record

SCALED = "scaled"
REQUESTED = "requested"
PLANNED = "planned"
_OTHER_CONFIG = "the configuration was another ({}, now {})"
_TOO_MUCH = "not all that it was made from is in it: there was too much of that"


class _Last(NamedTuple):
    """The last decision on a workload: whose it was, on which workload and pod set, and how many it asked for."""

    life: str
    uid: str
    pod_set: str
    replicas: int | None


class Judge:
    """To be given all records of the journal, in their order."""

    def __init__(self, defaults: Defaults, terms: Terms, times: Times, pace: Pace) -> None:
        self._defaults, self._terms, self._times, self._pace = defaults, terms, times, pace
        self._config, self._nodes_config = basis.config_hash(defaults), config_hash(terms, times)
        self._last: dict[str, _Last] = {}
        # Of the life that decided last, the last order of each group, by its key.
        self._life, self._orders = "", dict[str, int]()

    def judge(self, record: Record) -> Iterator[Verdict]:
        """Of a decision of the autoscaler; of all else nothing."""
        try:
            decided = read(record)
            if isinstance(decided, ScalingDecided):
                yield self._scaled(record.offset, decided)
            elif isinstance(decided, RequestsDecided):
                outcome, detail = self._requested(decided)
                yield Verdict(record.offset, decided.workload, REQUESTED, outcome, detail)
            elif decided is not None:
                yield from self._planned(record.offset, decided)
        except ValueError as error:
            key = (record.key or b"").decode(errors="replace")
            yield Verdict(record.offset, key, "unknown", Outcome.UNCHECKED, f"it cannot be read: {error}")

    def follow(self, record: Record) -> None:
        """The same of a decision that is not to be derived: what comes after it is judged by that it was there."""
        with suppress(ValueError):
            decided = read(record)
            if isinstance(decided, ScalingDecided):
                self._before(decided)
            elif isinstance(decided, NodesDecided):
                self._note(decided)

    def _scaled(self, offset: int, decided: ScalingDecided) -> Verdict:
        missing = self._before(decided)
        if missing:
            outcome, detail = Outcome.DIFFERENT, missing
        else:
            outcome, detail = self._derived(decided)
        return Verdict(offset, decided.workload, SCALED, outcome, detail)

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
            return Outcome.UNCHECKED, _OTHER_CONFIG.format(made.config, self._config)
        if not made.whole:
            return Outcome.UNCHECKED, _TOO_MUCH
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

    def _requested(self, decided: RequestsDecided) -> tuple[Outcome, str]:
        made, config = decided.basis, applying.config_hash(self._pace)
        if made.config != config:
            return Outcome.UNCHECKED, _OTHER_CONFIG.format(made.config, config)
        if (spec := applying.spec_hash(made.vertical)) != made.spec:
            return Outcome.DIFFERENT, f"basis.spec: {made.spec}, not {spec}"
        where = difference(decided, applying.derive(decided, self._pace))
        return (Outcome.DIFFERENT, where) if where else (Outcome.EQUAL, "")

    # --- node groups ---

    def _planned(self, offset: int, made: NodesDecided) -> Iterator[Verdict]:
        """One for each group of which something was decided, and one for all together where there is none, or where
        something else is different.
        """
        if self._life != made.basis.life:
            self._life, self._orders = made.basis.life, {}
        verdicts = [Verdict(offset, key, PLANNED, outcome, detail) for key, outcome, detail in self._of_groups(made)]
        self._note(made)
        yield from verdicts

    def _note(self, made: NodesDecided) -> None:
        if self._life != made.basis.life:
            self._life, self._orders = made.basis.life, {}
        self._orders |= {_key(item): item.generation for item in made.groups}

    def _of_groups(self, made: NodesDecided) -> Iterator[tuple[str, Outcome, str]]:
        keys = keys_of(made)
        why = self._why_unchecked(made)
        if why:
            yield from ((key, Outcome.UNCHECKED, why) for key in keys)
            return
        try:
            found = derive(made, self._terms, self._times)
        except ValueError as error:
            yield PLAN_KEY, Outcome.DIFFERENT, f"basis: {error}"
            return
        wrong = dict(self._differences(made, found))
        for key in (*keys, *(key for key in wrong if key not in keys)):
            yield key, Outcome.DIFFERENT if key in wrong else Outcome.EQUAL, wrong.get(key, "")

    def _why_unchecked(self, made: NodesDecided) -> str:
        if made.basis.config != self._nodes_config:
            return _OTHER_CONFIG.format(made.basis.config, self._nodes_config)
        if made.basis.failed:
            return f"a part of the plan could not be made: {', '.join(made.basis.failed)}"
        return "" if made.basis.whole else _TOO_MUCH

    def _differences(self, made: NodesDecided, found: Derived) -> Iterator[tuple[str, str]]:
        """By the group's key, or that of all groups together, the first that differs."""
        derived = {_key(item): item for item in found.record.groups}
        for item in made.groups:
            other = derived.pop(_key(item), None)
            if where := difference(item, other) if other is not None else "nothing was decided":
                yield _key(item), where
        yield from ((key, "nothing had been decided") for key in derived)
        yield from ((key, "whether it ended") for key in sorted({*made.ended} ^ {*found.record.ended}))
        rest = {"groups": (), "ended": ()}
        if where := difference(made.model_copy(update=rest), found.record.model_copy(update=rest)):
            yield PLAN_KEY, where
        yield from self._orders_missing(found)

    def _orders_missing(self, found: Derived) -> Iterator[tuple[str, str]]:
        """Orders that were given before it, by the same autoscaler, and that no decision has."""
        for key, generation in found.orders_before.items():
            known = self._orders.get(key)
            if known is not None and known != generation:
                yield key, f"the order before it was {generation}, and none has been since {known}"
        self._orders |= found.orders_before


Decision = ScalingDecided | RequestsDecided | NodesDecided
_MODELS: dict[bytes | None, type[Decision]] = {
    SCALING_DECIDED.ce_type.encode(): ScalingDecided,
    REQUESTS_DECIDED.ce_type.encode(): RequestsDecided,
    NODES_DECIDED.ce_type.encode(): NodesDecided,
}


def read(record: Record) -> Decision | None:
    """None of what is no decision of the autoscaler. Raises DecodeError."""
    model = _MODELS.get(record.header("ce_type"))
    return decode(model, record.value) if model is not None else None


def keys_of(decided: Decision) -> tuple[str, ...]:
    """What it decides on: a workload, or node groups; all of these together where none of them is another."""
    if not isinstance(decided, NodesDecided):
        return (decided.workload,)
    return (*(_key(item) for item in decided.groups), *decided.ended) or (PLAN_KEY,)


def _key(planned: NodeGroupPlanned) -> str:
    return f"{planned.cluster}/{planned.group}"
