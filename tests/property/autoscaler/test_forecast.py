"""A forecast never takes anything away, and what it remembers is what a plain table of slots would."""

from __future__ import annotations

import math
from copy import deepcopy
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.autoscaler.decision.forecast import Demand
from services.autoscaler.decision.horizontal.evaluation import evaluate, settle
from services.autoscaler.decision.horizontal.limits import Memory
from shared.events.v1.forecasts import SLOTS, ScalingForecast
from tests.integration.autoscaler.cases import case, defaults_of, seen_in, terms_of

_CASES = 1500
_SLOT_MS = 12_500
_HOURLY = ScalingForecast(period_seconds=3600, ahead_seconds=60, history_periods=3)


def test_no_forecast_leads_below_what_the_metrics_ask_for() -> None:
    """In the cases that the HorizontalPodAutoscaler is asked: whatever is expected, at each look, from any past."""
    raised = 0
    for number in range(_CASES):
        document, random = case(number), Random(number)
        terms, defaults, memory = terms_of(document), defaults_of(document), Memory()
        asked = 0
        for look in document["looks"]:
            asked = asked if look["asked"] is None else look["asked"]
            seen, expected = seen_in(document, look, asked), random.choice([0.0, 0.3, 3.2, 9.0, 77.7, 1e9])
            alone = evaluate(terms, defaults, seen, deepcopy(memory), look["at_ms"])
            ahead = evaluate(terms, defaults, seen, memory, look["at_ms"], expected)
            assert (alone.replicas is None) == (ahead.replicas is None)
            assert ahead.proposals == alone.proposals
            if ahead.replicas is not None and alone.replicas is not None:
                assert ahead.replicas >= alone.replicas
                assert ahead.replicas <= max(terms.max_replicas, alone.replicas)
                raised += ahead.replicas > alone.replicas
                if ahead.replicas != asked:
                    settle(terms, memory, asked, ahead.replicas, look["at_ms"])
                    asked = ahead.replicas
    assert raised > _CASES / 4


_amounts = st.one_of(st.none(), st.just(math.nan), st.floats(0, 50_000))
_steps = st.one_of(
    st.integers(0, 3 * _SLOT_MS),
    st.integers(-3_600_000, 7_200_000),
    st.sampled_from([-(10**11), 10**11, 3 * 3_600_000]),
)


@given(st.lists(st.tuples(_steps, _amounts), max_size=60))
def test_the_ring_is_a_table_of_the_most_in_each_slot(looks: list[tuple[int, float | None]]) -> None:
    demand, table = Demand(_HOURLY), dict[int, float]()
    size, now, newest = 4 * SLOTS, 10**12, 0
    for step, needed in looks:
        now = max(0, now + step)
        slot = now // _SLOT_MS
        demand.note(needed, now)
        if needed is not None and not math.isnan(needed):
            if not table or abs(slot - newest) >= size:
                table.clear()
            newest = slot if not table else max(newest, slot)
            table = {key: value for key, value in table.items() if newest - size < key}
            table[slot] = max(table.get(slot, 0.0), needed)
        found = demand.forecast(now)
        assert found.replicas is None or 0 <= found.replicas < math.inf
    told = demand.told()
    known = {} if told is None else {told.first + n: value for n, value in enumerate(told.needed) if value >= 0}
    assert known == {slot: round(100 * value) for slot, value in table.items()}
    if told is not None:
        again = Demand(_HOURLY)
        again.restore(told)
        assert again.told() == told
