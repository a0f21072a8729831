"""`python -m tests.chaos --seed S --minutes N`: real faults for a while, then the verdict.

The last line is one JSON object. Exit codes: 0 everything kept, 1 a violation or an error, 2 not possible here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from shared.runtime.embedded import EmbeddedError
from shared.runtime.embedded.prepare import prepare_kafka
from tests.chaos import network
from tests.chaos.report import Report, write_table
from tests.chaos.run import Run, RunOptions
from tests.testbed.build import BuildError, build

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
NOT_POSSIBLE: Final = 2
_NICE: Final = 5


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what is asked and broken (default: a random one)")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long faults are made (default: 20)")
    parser.add_argument("--clusters", type=int, default=3, help="member clusters (default: 3)")
    parser.add_argument("--no-hub", dest="hub", action="store_false", help="without hub and hub cluster")
    parser.add_argument("--faults", type=int, default=None, help="at most so many faults")
    parser.add_argument("--every", type=float, default=0.8, help="seconds between two requests (default: 0.8)")
    parser.add_argument(
        "--gap", type=float, default=4.0, help="seconds between the beginnings of two faults (default: 4)"
    )
    parser.add_argument(
        "--settle", type=float, default=300.0, help="seconds within which everything must be as asked (default: 300)"
    )
    parser.add_argument("--only", action="append", default=[], help="only this class of faults; may be given again")
    parser.add_argument("--report", type=Path, default=Path(".flotilla/chaos.json"), help="where the report is written")
    parser.add_argument("--keep", action="store_true", help="keep data and logs also when all is well")
    parser.add_argument(
        "--write-table", type=Path, metavar="REPORT", help=f"only put a report's table into {DOCUMENT.name}"
    )
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    console = Console(soft_wrap=True)
    if options.write_table:
        write_table(options.write_table, DOCUMENT)
        return 0
    if not network.inside():
        if reason := network.unavailable():
            console.print(f"network namespaces are needed, and cannot be had here: {reason}")
            return NOT_POSSIBLE
        try:
            asyncio.run(prepare_kafka())  # may download: out here there is a network
            build()
        except (EmbeddedError, BuildError) as error:
            console.print(str(error))
            return NOT_POSSIBLE
        network.enter_namespaces("tests.chaos", sys.argv[1:])
    os.nice(_NICE)
    # Our own clients tell of every broker that we took away; what fails for good comes as an exception.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return _run(options, console)


def _run(options: argparse.Namespace, console: Console) -> int:
    options.report.parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="flotilla-chaos-"))
    began = time.monotonic()
    run_options = RunOptions(
        seed=secrets.randbelow(2**31) if options.seed is None else options.seed,
        seconds=options.minutes * 60,
        directory=directory,
        history=options.report.with_suffix(".jsonl"),
        clusters=options.clusters,
        hub=options.hub,
        every_s=options.every,
        gap_s=options.gap,
        settle_s=options.settle,
        most_faults=options.faults,
        only=tuple(options.only),
    )

    def say(message: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:7.1f}[/dim] {message}", highlight=False, markup=True)

    say(f"seed {run_options.seed}; data and logs in {directory}")
    run = Run(run_options, say)
    try:
        report = asyncio.run(_until_told(run))
    except asyncio.CancelledError:
        say(f"cancelled; data and logs are in {directory}")
        return 1
    except Exception as error:  # noqa: BLE001  the bed or this program failed: that is no verdict, and must look so
        console.print_exception()
        print(json.dumps({"ok": False, "seed": run_options.seed, "error": repr(error)}), flush=True)
        return 1
    report.write(options.report)
    console.print(report.table())
    for violation in report.violations:
        console.print(str(violation), style="red", highlight=False, markup=False)
    if report.ok and not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    console.print(f"report {options.report}, history {run_options.history}", highlight=False)
    print(json.dumps(report.summary()), flush=True)
    return 0 if report.ok else 1


async def _until_told(run: Run) -> Report:
    """The first signal ends the faults and asks for the verdict; before there are any, or again, it cancels."""
    task = asyncio.current_task()
    told = False

    def tell() -> None:
        nonlocal told
        if (told or not run.started) and task is not None:
            task.cancel()
        told = True
        run.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, tell)
    return await run.run()


if __name__ == "__main__":
    sys.exit(main())
