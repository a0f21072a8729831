"""What the containers of one name used, over all pods of a pod set: every sample of cpu, and of memory the peaks.

Memory cannot be throttled, so of each container only the most in each day counts, once; a higher one replaces it.

Source: pkg/recommender/model (container.go, aggregate_container_state.go) of the Vertical Pod Autoscaler.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.autoscaler.decision.vertical.histogram import CPU, MEMORY, DecayingHistogram
from shared.events.v1.usage import ContainerLearned, RequestsRecommended

_INTERVAL_MS = 86_400_000
_CPU_WEIGHT = 0.1


@dataclass(slots=True)
class Instance:
    """One container of one pod: until when its present interval lasts, and its peak in that; and its newest sample."""

    window_end_ms: int | None = None
    peak: int = 0
    newest_ms: int | None = None


@dataclass(slots=True)
class ContainerUse:
    """`samples` of cpu, from the first to the last; times are Unix milliseconds."""

    cpu: DecayingHistogram = field(default_factory=lambda: DecayingHistogram(CPU))
    memory: DecayingHistogram = field(default_factory=lambda: DecayingHistogram(MEMORY))
    first_ms: int = 0
    last_ms: int = 0
    samples: int = 0

    def add(self, instance: Instance, milli: int, memory: int, at_ms: int) -> None:
        """Thousandths of a core, and bytes. A sample that is not newer than the last counts for nothing."""
        if instance.newest_ms is not None and at_ms <= instance.newest_ms:
            if instance.newest_ms - at_ms < _INTERVAL_MS:
                return
            # A clock was set back: its interval would last for as long as that.
            instance.window_end_ms, instance.peak = None, 0
        instance.newest_ms = at_ms
        if milli >= 0:
            self._add_cpu(milli, at_ms)
        if memory >= 0:
            self._add_memory(instance, memory, at_ms)

    def _add_cpu(self, milli: int, at_ms: int) -> None:
        self.cpu.add(milli / 1000.0, _CPU_WEIGHT, at_ms)
        self.first_ms = min(self.first_ms, at_ms) if self.samples else at_ms
        self.last_ms = max(self.last_ms, at_ms)
        self.samples += 1

    def _add_memory(self, instance: Instance, memory: int, at_ms: int) -> None:
        end_ms = at_ms if instance.window_end_ms is None else instance.window_end_ms
        if at_ms < end_ms:
            if not instance.peak or memory <= instance.peak:
                return
            self.memory.subtract(float(instance.peak), 1.0, end_ms)
        else:
            end_ms += (at_ms - end_ms) // _INTERVAL_MS * _INTERVAL_MS + _INTERVAL_MS
        instance.window_end_ms, instance.peak = end_ms, memory
        self.memory.add(float(memory), 1.0, end_ms)

    def told(self, name: str, recommended: RequestsRecommended) -> ContainerLearned:
        return ContainerLearned(
            name=name,
            recommended=recommended,
            cpu=self.cpu.told(),
            memory=self.memory.told(),
            first=self.first_ms,
            last=self.last_ms,
            samples=self.samples,
        )

    @classmethod
    def restored(cls, told: ContainerLearned) -> ContainerUse:
        use = cls(first_ms=told.first, last_ms=told.last, samples=told.samples)
        use.cpu.restore(told.cpu)
        use.memory.restore(told.memory)
        return use
