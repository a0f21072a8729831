"""When to try again: exponential with full jitter for what time can heal, the longest wait for what it cannot.

Chance comes from outside as a number in [0, 1), so that a decision can be replayed. Source of full jitter: M. Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass

_RETRYABLE = frozenset({0, 401, 404, 408, 409, 425, 429})
_SERVER_ERROR = 500
# The API server refuses writes into a namespace that is going away with 403; it heals as soon as it is gone.
_TERMINATING = "being terminated"
_MAX_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the executor is; times in milliseconds."""

    backoff_base_ms: int = 500
    backoff_cap_ms: int = 60_000
    repair_base_ms: int = 1_000
    repair_cap_ms: int = 300_000
    resync_ms: int = 300_000
    progress_deadline_ms: int = 120_000
    # From a repeat with equal content to the write that keeps its fence. Compaction takes no command away that soon.
    stamp_ms: int = 30_000
    # Of node groups: between two looks, while something happens and while nothing does, and for a node to become empty.
    busy_look_ms: int = 2_000
    look_ms: int = 15_000
    drain_ms: int = 900_000


@dataclass(frozen=True, slots=True)
class CallFailed:
    """What an API server answered instead of an object; code 0 if it did not answer."""

    code: int
    reason: str
    message: str
    retry_after_s: float | None = None

    @property
    def lasting(self) -> bool:
        """Whether only another command, or another cluster, would make the same call go through."""
        return self.code < _SERVER_ERROR and self.code not in _RETRYABLE and _TERMINATING not in self.message


@dataclass(frozen=True, slots=True)
class Retry:
    """A call that failed, `attempt` times in a row, and is not tried again before `not_before_ms`."""

    attempt: int
    not_before_ms: int
    failure: CallFailed


def next_retry(previous: Retry | None, failure: CallFailed, policy: Policy, now_ms: int, chance: float) -> Retry:
    attempt = previous.attempt + 1 if previous else 1
    if failure.lasting:
        # Not full jitter: the longest wait is meant to be long, and only spread.
        delay = policy.backoff_cap_ms * (0.75 + 0.25 * chance)
    else:
        ceiling = min(policy.backoff_cap_ms, policy.backoff_base_ms << min(attempt - 1, _MAX_DOUBLINGS))
        delay = chance * ceiling
    if failure.retry_after_s is not None:
        # Spread behind the asked moment, so that the callers of one answer do not return together.
        delay = max(delay, failure.retry_after_s * 1000 + chance * policy.backoff_base_ms)
    return Retry(attempt, now_ms + round(delay), failure)


@dataclass(frozen=True, slots=True)
class Repairs:
    """How often an object had to be put right lately: the first time at once, then ever later.

    Somebody else writes the same object; without this two writers would take turns as fast as the API server allows.
    """

    count: int = 0
    last_ms: int = 0

    def not_before_ms(self, policy: Policy) -> int:
        if self.count == 0:
            return 0
        return self.last_ms + min(policy.repair_cap_ms, policy.repair_base_ms << min(self.count - 1, _MAX_DOUBLINGS))

    def after_one(self, policy: Policy, now_ms: int) -> Repairs:
        """Counts a repair; what lies back more than twice the longest wait is forgotten."""
        quiet = now_ms - self.last_ms > 2 * policy.repair_cap_ms
        return Repairs(1 if quiet else self.count + 1, now_ms)
