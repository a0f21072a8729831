"""A distribution that forgets: weights in buckets that grow exponentially, each sample's halved in every half-life.

A sample's weight is multiplied by 2^((its time - reference) / half-life), so nothing has to be touched as time goes by;
the reference moves on before the exponent grows too large. Percentiles are upper bounds of buckets.

Source: pkg/recommender/util (histogram.go, decaying_histogram.go, histogram_options.go) of the Vertical Pod Autoscaler.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass

from shared.events.v1.usage import HistogramLearned

HALF_LIFE_MS = 86_400_000
# A bucket that weighs less is empty.
_EPSILON = 0.001 * 0.1
_RATIO = 1.05
_MAX_EXPONENT = 100
_MOST_WEIGHT = 10_000


def _log(value: float) -> float:
    return math.log(value) / math.log(_RATIO)


@dataclass(frozen=True, slots=True)
class Buckets:
    """The first begins at 0 and is as wide as `first`, each of the others 5 % wider than the one before."""

    count: int
    first: float

    @classmethod
    def up_to(cls, most: float, first: float) -> Buckets:
        return cls(math.ceil(_log(most * (_RATIO - 1) / first + 1)) + 1, first)

    def find(self, value: float) -> int:
        if value < self.first:
            return 0
        return min(int(_log(value * (_RATIO - 1) / self.first + 1)), self.count - 1)

    def start(self, bucket: int) -> float:
        return self.first * (math.pow(_RATIO, bucket) - 1) / (_RATIO - 1) if bucket else 0.0


# Cores, and bytes.
CPU = Buckets.up_to(1000.0, 0.01)
MEMORY = Buckets.up_to(1e12, 1e7)


class DecayingHistogram:
    """Values and times are not negative; times are Unix milliseconds."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._weights = array("d", bytes(8 * buckets.count))
        self._total = 0.0
        # Of buckets that are not empty.
        self._lowest, self._highest = buckets.count - 1, 0
        self._reference_ms = 0

    @property
    def is_empty(self) -> bool:
        return self._weights[self._lowest] < _EPSILON

    def add(self, value: float, weight: float, at_ms: int) -> None:
        bucket, weight = self._buckets.find(value), weight * self._factor(at_ms)
        self._weights[bucket] += weight
        self._total += weight
        if self._weights[bucket] >= _EPSILON:
            self._lowest, self._highest = min(self._lowest, bucket), max(self._highest, bucket)

    def subtract(self, value: float, weight: float, at_ms: int) -> None:
        """Takes back what was added."""
        bucket, weight = self._buckets.find(value), weight * self._factor(at_ms)
        if weight > self._weights[bucket] - _EPSILON:
            weight = self._weights[bucket]
        self._total -= weight
        self._weights[bucket] -= weight
        self._narrow()

    def percentile(self, part: float) -> float:
        """The upper bound of the bucket below which so much of the weight is; 0 of what is empty."""
        if self.is_empty:
            return 0.0
        threshold, summed, bucket = part * self._total, 0.0, self._lowest
        while bucket < self._highest:
            summed += self._weights[bucket]
            if summed >= threshold:
                break
            bucket += 1
        return self._buckets.start(min(bucket + 1, self._buckets.count - 1))

    def told(self) -> HistogramLearned:
        """As the original's checkpoint: weights of buckets in whole numbers, of which the most is 10,000."""
        kept = range(self._lowest, self._highest + 1)
        most = max((self._weights[bucket] for bucket in kept), default=0.0)
        ratio = _MOST_WEIGHT / most if most > 0 else 0.0
        weights = {bucket: math.floor(self._weights[bucket] * ratio + 0.5) for bucket in kept}
        return HistogramLearned(
            reference=self._reference_ms,
            total=self._total,
            weights={bucket: weight for bucket, weight in weights.items() if weight},
        )

    def restore(self, told: HistogramLearned) -> None:
        """Into one that is empty. What does not fit, of another version, is left out."""
        weights = {bucket: weight for bucket, weight in told.weights.items() if 0 <= bucket < self._buckets.count}
        summed = sum(weights.values())
        if not summed:
            return
        for bucket, weight in weights.items():
            self._weights[bucket] = weight * told.total / summed
        self._lowest, self._highest = min(weights), max(weights)
        self._total, self._reference_ms = told.total, told.reference

    # --- how it forgets ---

    def _factor(self, at_ms: int) -> float:
        if at_ms > self._reference_ms + HALF_LIFE_MS * _MAX_EXPONENT:
            self._shift(at_ms)
        return math.exp2((at_ms - self._reference_ms) / HALF_LIFE_MS)

    def _shift(self, at_ms: int) -> None:
        reference_ms = (at_ms + HALF_LIFE_MS // 2) // HALF_LIFE_MS * HALF_LIFE_MS
        scale = math.ldexp(1.0, (self._reference_ms - reference_ms) // HALF_LIFE_MS)
        for bucket in range(self._lowest, self._highest + 1):
            self._weights[bucket] *= scale
        self._total *= scale
        self._reference_ms = reference_ms
        self._narrow()

    def _narrow(self) -> None:
        last = self._buckets.count - 1
        while self._lowest < last and self._weights[self._lowest] < _EPSILON:
            self._lowest += 1
        while self._highest > 0 and self._weights[self._highest] < _EPSILON:
            self._highest -= 1
