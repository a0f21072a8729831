"""`python -m tests.simulation --seeds 1000`: many simulated fleets, and what the checker found in them."""

from __future__ import annotations

import argparse
import os
import sys

_HASH_SEED = "0"


def _hours(text: str) -> float:
    hours = float(text)
    if not 0.1 <= hours <= 24:
        raise argparse.ArgumentTypeError("from 0.1 to 24 hours")
    return hours


def main() -> int:
    # Sets of texts must iterate in the same order in every run: that is decided before Python starts.
    if os.environ.get("PYTHONHASHSEED") != _HASH_SEED:
        environment = {**os.environ, "PYTHONHASHSEED": _HASH_SEED}
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], environment)  # noqa: S606
    from tests.simulation.command import run  # noqa: PLC0415 - not before the hash seed is fixed

    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay one seed")
    parser.add_argument("--plan", help="replay a plan from a JSON file")
    parser.add_argument(
        "--hours",
        type=_hours,
        default=0.0,
        help="stretch what happens in a minute or so over so many, for what is slow; a failing seed is not shrunk",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--mutant", default="", help="a deliberate defect to be hunted; with --seed: there")
    parser.add_argument("--mutants", action="store_true", help="hunt every deliberate defect; --seeds: at most so many")
    parser.add_argument("--search", action="store_true", help="with mutants: known seeds have no precedence")
    parser.add_argument("--known", action="store_true", help="with mutants: only those that have been caught before")
    parser.add_argument("--remember", action="store_true", help="with mutants: write down the seeds that caught them")
    parser.add_argument("--verbose", action="store_true", help="with one seed or plan: what the services log")
    parser.add_argument("--no-shrink", action="store_true", help="report a failing seed as it is")
    parser.add_argument("--digests", action="store_true", help="print the digest of each seed")
    parser.add_argument("--profile", action="store_true", help="with one seed: where the time goes")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
