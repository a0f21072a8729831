"""Every mutant is to be caught by a rule that it names: else the simulation, or its checker, is too weak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.mutants.hunt import known_seeds

pytestmark = pytest.mark.timeout(660)
_ROOT = Path(__file__).parents[2]
# The seeds that are known to catch a mutant come first; where a change of a service moved that, so many are searched.
_SEEDS = 20
_PATIENCE_S = 600


@pytest.fixture(scope="module")
def catches() -> dict[str, Any]:
    """What became of each mutant. In a process of its own: the order of sets is decided before Python starts."""
    command = [sys.executable, "-m", "tests.simulation", "--mutants", "--known", "--seeds", str(_SEEDS)]
    command += ["--workers", str(os.cpu_count() or 1)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", sorted(known_seeds()))
def test_the_simulation_catches(name: str, catches: dict[str, Any]) -> None:
    catch = catches[name]
    assert catch["seed"] is not None, f"survived {catch['tried']} seeds; other rules: {catch['found']}"
    assert not catch["false_alarm"], "the same seed fails without the defect as well"


def test_none_survives() -> None:
    """A mutant that no seed catches is a weakness of the simulation: `--mutants --remember` writes the seeds down."""
    assert MUTANTS.keys() == known_seeds().keys()


def test_each_says_what_it_stands_for() -> None:
    assert all(mutant.stands_for and mutant.caught_by for mutant in MUTANTS.values())
