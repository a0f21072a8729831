from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.decision.backoff import CallFailed, Policy, Repairs, Retry, next_retry

POLICY = Policy(backoff_base_ms=500, backoff_cap_ms=60_000)
BROKEN = CallFailed(500, "InternalError", "")
chances = st.floats(0, 1, exclude_max=True)


@given(chance=chances, attempts=st.integers(1, 60))
def test_full_jitter_under_a_doubling_ceiling_with_a_cap(chance: float, attempts: int) -> None:
    retry: Retry | None = None
    for _ in range(attempts):
        retry = next_retry(retry, BROKEN, POLICY, 0, chance)
    assert retry is not None
    assert retry.attempt == attempts
    assert retry.not_before_ms == round(chance * min(60_000, 500 * 2 ** (attempts - 1)))


@pytest.mark.parametrize("code", [400, 403, 405, 413, 415, 422])
@given(chance=chances)
def test_what_time_cannot_heal_waits_longest(code: int, chance: float) -> None:
    retry = next_retry(None, CallFailed(code, "Invalid", ""), POLICY, 0, chance)
    assert 45_000 <= retry.not_before_ms <= 60_000


@pytest.mark.parametrize("code", [0, 401, 404, 408, 409, 425, 429, 500, 503, 504])
def test_what_time_can_heal_is_tried_soon(code: int) -> None:
    assert next_retry(None, CallFailed(code, "", ""), POLICY, 0, 0.99).not_before_ms < 500


def test_a_terminating_namespace_heals() -> None:
    message = "unable to create new content in namespace shop because it is being terminated"
    assert not CallFailed(403, "Forbidden", message).lasting


@given(chance=chances)
def test_retry_after_is_a_lower_bound(chance: float) -> None:
    retry = next_retry(None, CallFailed(429, "", "", retry_after_s=7), POLICY, 0, chance)
    assert 7_000 <= retry.not_before_ms <= 7_500


def test_repairs_are_forgotten_after_a_long_quiet() -> None:
    policy = Policy(repair_base_ms=1_000, repair_cap_ms=10_000)
    repairs = Repairs()
    waits = []
    now = 0
    for _ in range(6):
        waits.append(max(0, repairs.not_before_ms(policy) - now))
        now = max(now, repairs.not_before_ms(policy))
        repairs = repairs.after_one(policy, now)
    assert waits == [0, 1_000, 2_000, 4_000, 8_000, 10_000]
    assert repairs.after_one(policy, now + 20_001).count == 1
