"""Runs mutants over seeds until the checker finds each of them, and the same seeds without any.

A mutant is caught when a rule that it names is broken; another rule alone does not count, since it was not meant. Seeds
that are known to catch it come first, so that a hunt mostly ends with the first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.simulation import workers
from tests.simulation.generator import generate
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.simulate import Result, simulate

LIMIT = 60
_KNOWN = Path(__file__).with_name("seeds.json")


@dataclass(frozen=True, slots=True)
class Catch:
    """What became of a hunt: the seed at which a rule found the mutant, or None, after `tried` seeds."""

    name: str
    seed: int | None
    tried: int
    found: tuple[str, ...]
    false_alarm: tuple[str, ...] = ()

    @property
    def caught(self) -> bool:
        return self.seed is not None and not self.false_alarm


def simulate_mutant(name: str, seed: int) -> Result:
    with MUTANTS[name].applied():
        return simulate(generate(seed, MUTANTS[name].faults))


def known_seeds() -> dict[str, int]:
    """Where each mutant was caught last."""
    known: dict[str, int] = json.loads(_KNOWN.read_text()) if _KNOWN.exists() else {}
    return known


def hunt(name: str, seeds: Iterable[int]) -> Catch:
    """Tries seeds in their order until the mutant is caught, and the one that caught it without the defect."""
    mutant = MUTANTS[name]
    others: set[str] = set()
    tried = 0
    for seed in seeds:
        tried += 1
        rules = {violation.rule for violation in simulate_mutant(name, seed).violations}
        if rules & mutant.caught_by:
            return Catch(name, seed, tried, tuple(sorted(rules & mutant.caught_by)), _false_alarm(mutant, seed))
        others |= rules
    return Catch(name, None, tried, tuple(sorted(others)))


def _false_alarm(mutant: Mutant, seed: int) -> tuple[str, ...]:
    """Rules that are broken at this seed without the defect: all of them, or with its front guard off the mutant's."""
    with mutant.control():
        rules = {violation.rule for violation in simulate(generate(seed, mutant.faults)).violations}
    return tuple(sorted(rules & mutant.caught_by if mutant.front is not None else rules))


def order(known: int | None, first: int, limit: int) -> Iterator[int]:
    """The known seed, and then the others, `limit` in all."""
    if known is not None:
        yield known
        limit -= 1
    yield from [seed for seed in range(first, first + limit + 1) if seed != known][:limit]


def run(arguments: argparse.Namespace) -> int:
    """Hunts all mutants, or the one that was named; prints a table. 0 if every one was caught."""
    if arguments.mutant:
        names = [arguments.mutant]
    elif arguments.known:
        names = sorted(known_seeds())
    else:
        names = sorted(MUTANTS)
    limit = arguments.seeds or LIMIT
    known: Mapping[str, int] = {} if arguments.search else known_seeds()
    print(f"{len(names)} mutants, at most {limit} seeds each, from {arguments.first}")
    with workers.pool(arguments.workers) as pool:
        waiting = [pool.submit(hunt, name, list(order(known.get(name), arguments.first, limit))) for name in names]
        catches = [_shown(future.result()) for future in waiting]
    caught = [item for item in catches if item.caught]
    print(f"{len(caught)} of {len(catches)} mutants caught")
    if arguments.remember:
        seeds = known_seeds() | {item.name: item.seed for item in caught if item.seed is not None}
        _KNOWN.write_text(json.dumps({name: seeds[name] for name in sorted(seeds) if name in MUTANTS}, indent=2) + "\n")
    print(json.dumps({item.name: asdict(item) for item in catches}))
    return 0 if len(caught) == len(catches) else 1


def _shown(item: Catch) -> Catch:
    if item.false_alarm:
        what = f"FALSE ALARM at seed {item.seed}: {', '.join(item.false_alarm)} without the defect"
    elif item.seed is None:
        what = f"SURVIVED {item.tried} seeds; found: {', '.join(item.found) or 'nothing'}"
    else:
        what = f"caught by {', '.join(item.found)} at seed {item.seed} after {item.tried}"
    print(f"  {item.name:50} {what}", flush=True)
    return item
