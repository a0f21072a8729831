"""What the command line does: many seeds in worker processes, or one seed or plan in this one."""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from tests.simulation import logs, workers
from tests.simulation.generator import generate
from tests.simulation.mutants import MUTANTS, hunt
from tests.simulation.plan import Plan
from tests.simulation.shrink import shrink
from tests.simulation.simulate import Result, simulate

_SHOWN = 10
# A worker tidies up once in so many seeds: each leaves about 8 MB in cycles, and all imports are looked at as well.
_TIDIED = 32
# So many failing seeds are shrunk; each takes a minute or so.
_SHRUNK = 3
_PLANS = Path.home() / ".cache" / "flotilla" / "simulation"


def run(arguments: argparse.Namespace) -> int:
    if arguments.seed is not None or arguments.plan:
        return _one(arguments)
    if arguments.mutants or arguments.mutant:
        return hunt.run(arguments)
    return _many(arguments)


def _one(arguments: argparse.Namespace) -> int:
    logs.configure(verbose=arguments.verbose)
    kinds = MUTANTS[arguments.mutant].faults if arguments.mutant else ()
    plan = (
        Plan.model_validate_json(Path(arguments.plan).read_bytes())
        if arguments.plan
        else generate(arguments.seed, kinds)
    )
    profile = cProfile.Profile() if arguments.profile else None
    if arguments.hours:
        plan = plan.stretched(arguments.hours)
    if profile is not None:
        profile.enable()
    with MUTANTS[arguments.mutant].applied() if arguments.mutant else nullcontext():
        result = simulate(plan, verbose=arguments.verbose)
        if result.violations and not (
            arguments.no_shrink or arguments.plan or arguments.mutant or arguments.verbose or arguments.hours
        ):
            _shrink(result)
    if profile is not None:
        profile.disable()
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(45)
    _show(result, arguments.hours)
    print(f"digest {result.digest}, {result.virtual_s:.0f} s in {result.real_s:.2f} s, {result.appends} appends")
    return 1 if result.violations else 0


def _many(arguments: argparse.Namespace) -> int:
    began = time.perf_counter()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    failed: list[Result] = []
    virtual = 0.0
    with workers.pool(arguments.workers) as pool:
        work = partial(_simulate, digested=arguments.digests, hours=arguments.hours)
        for result in pool.map(work, seeds, chunksize=1):
            virtual += result.virtual_s
            if arguments.digests:
                print(result.plan.seed, result.digest)
            if result.violations:
                failed.append(result)
                _show(result, arguments.hours)
    took = time.perf_counter() - began
    rate = f"{virtual / 3600:.1f} simulated hours in {took:.0f} s: {virtual / took:.0f} x real time"
    print(f"{len(seeds)} seeds, {len(failed)} failed; {rate}", flush=True)
    if failed and not (arguments.no_shrink or arguments.hours):
        logs.configure(verbose=False)
        for result in failed[:_SHRUNK]:
            _shrink(result)
    return 1 if failed else 0


def _simulate(seed: int, *, digested: bool, hours: float) -> Result:
    plan = generate(seed)
    result = simulate(plan.stretched(hours) if hours else plan, digested=digested)
    if hours or seed % _TIDIED == 0:
        # Services leave what they built out of collections (`shared.runtime.heap`), and so all that was there then.
        gc.unfreeze()
        gc.collect()
    return result


def _shrink(result: Result) -> None:
    """Writes down the smallest plan that still fails, and how to replay it."""
    small = shrink(result)
    file = _PLANS / f"seed-{result.plan.seed}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(small.plan.model_dump_json(indent=2) + "\n")
    parts = ", ".join(
        f"{len(getattr(small.plan, part))} {part}" for part in ("clusters", "requests", "actions", "faults")
    )
    print(f"seed {result.plan.seed} shrunk to {parts}: {small.violations[0]}"[:400])
    print(f"  replay: make simulate ARGS='--plan {file}'", flush=True)


def _show(result: Result, hours: float) -> None:
    if not result.violations:
        return
    seed, stretched = result.plan.seed, f" --hours {hours:g}" if hours else ""
    print(f"seed {seed}: {len(result.violations)} violations; replay: make simulate ARGS='--seed {seed}{stretched}'")
    for violation in result.violations[:_SHOWN]:
        print(f"  {violation}"[:600])
    sys.stdout.flush()
