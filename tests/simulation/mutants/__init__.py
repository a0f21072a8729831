"""Deliberate defects. The simulation must find every one, each by the rule that it breaks, or it is not good enough."""

from __future__ import annotations

from tests.simulation.mutants import executor, hub, log, moving, scheduler, status, watcher
from tests.simulation.mutants.mutant import MUTANTS, Mutant

__all__ = ["MUTANTS", "Mutant", "executor", "hub", "log", "moving", "scheduler", "status", "watcher"]
