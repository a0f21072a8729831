"""`python -m tests.bench.day --series FILE`: a day of recorded load over clusters at different prices, in virtual time.

Each workload has the CPU use of some of the recorded machines together (`--workloads` of them, all machines once),
and the same HorizontalPodAutoscaler on both sides. Four clusters, at prices as of four regions of one cloud, have four
kinds of nodes each; each could do with 0.8 of what the day needs at its peak. A node boots for `--boot` seconds, a pod
is ready `--start` seconds after it was bound. The fleet begins empty an hour before midnight, and counted is from then.

- **flotilla**: its own decisions (`day_flotilla`), by the autoscaler's settings, which the environment may change.
- **flotilla, head-room**: the same with `headRoom` in every cluster (`HEAD_ROOM`), so that few wait for a node.
- **flotilla, price first**: the same with weights of the scheduler's cost terms of somebody for whom price matters
  most (`PRICE_FIRST`), and with `rebalance`.
- **reactive**: replicas divided by static weights, the clusters' capacities; in each cluster cluster-autoscaler's
  published rules with the expander `least-waste` (`day_reactive`).
- **reactive, priority**: the same, its groups ordered by what a core costs.
- **reactive, foreseen**: that, with weights of somebody who knew the day before: the cheapest clusters are filled.

Cost is that of nodes from their order to their end. Time to ready is from the moment in which a replica should be
there, because more are asked for or one was evicted, until there is one more that is ready (`day_ledger`).

Days are of the same machines with every `--seeds`; `--machines FIRST:END` are other days, of some of them alone.

    python -m tests.bench.day --series FILE [--seeds N] [--workloads N] [--boot S] [--start S] [--hours H]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.table import Table

from tests.bench.day_fleet import Times, VirtualFleet
from tests.bench.day_flotilla import Flotilla
from tests.bench.day_ledger import Figures, Ledger
from tests.bench.day_load import Served, fleet_for, peak, served
from tests.bench.day_reactive import Reactive, by_capacity, cheapest_filled
from tests.bench.forecast import SERIES, machines
from tests.bench.support import write_result

WARM_UP_MS = 3_600_000
BEGIN_MS = 1_800_000_000_000
PRICE_FIRST = {"price": 4.0, "spread": 0.5}
REBALANCING = {"rebalance": {"minimumGain": 0.1, "cooldownSeconds": 600}}
HEAD_ROOM = {"cpu": "15%", "memory": "15%"}
FLOTILLA, ROOMY, PRICED = "flotilla", "flotilla, head-room", "flotilla, price first"
REACTIVE, PRIORITY, FORESEEN = "reactive", "reactive, priority", "reactive, foreseen"


class Side(Protocol):
    """Who plans the fleet."""

    def begin(self) -> None: ...

    def settle(self) -> None: ...


class Day(NamedTuple):
    """One to be lived through; `hours` of it."""

    workloads: Sequence[Served]
    times: Times
    seed: int
    hours: float = 24.0


Make = Callable[[VirtualFleet, Day], Side]
SIDES: Mapping[str, Make] = {
    FLOTILLA: lambda fleet, day: Flotilla(fleet, day.workloads),
    ROOMY: lambda fleet, day: Flotilla(fleet, day.workloads, head_room=HEAD_ROOM),
    PRICED: lambda fleet, day: Flotilla(fleet, day.workloads, PRICE_FIRST, REBALANCING),
    REACTIVE: lambda fleet, day: _reactive(fleet, day, "least-waste"),
    PRIORITY: lambda fleet, day: _reactive(fleet, day, "priority,least-waste"),
    FORESEEN: lambda fleet, day: _reactive(fleet, day, "priority,least-waste", foreseen=True),
}


def _reactive(fleet: VirtualFleet, day: Day, expander: str, *, foreseen: bool = False) -> Reactive:
    groups = list(fleet.groups.values())
    weights = cheapest_filled(groups, peak(day.workloads)) if foreseen else by_capacity(groups)
    return Reactive(fleet, day.workloads, weights, expander, day.seed)


def live(day: Day, make: Make) -> tuple[Figures, Ledger]:
    ledger = Ledger(BEGIN_MS)
    fleet = VirtualFleet(fleet_for(peak(day.workloads)), day.times, ledger, BEGIN_MS - WARM_UP_MS, day.seed)
    side = make(fleet, day)
    side.begin()
    fleet.run(BEGIN_MS + round(day.hours * 3_600_000), side.settle)
    fleet.close()
    return ledger.figures(fleet.now_ms), ledger


def measure(options: argparse.Namespace, console: Console) -> dict[str, list[Figures]]:
    """By side, for each seed."""
    series = machines(options.series)[options.machines]
    times = Times(boot=round(1000 * options.boot), start=round(1000 * options.start))
    found: dict[str, list[Figures]] = {name: [] for name in options.sides}
    for seed in range(options.seeds):
        day = Day(served(series, seed, options.workloads), times, seed, options.hours)
        for name in options.sides:
            began = time.process_time()
            figures, ledger = live(day, SIDES[name])
            found[name].append(figures)
            spent = ", ".join(f"{cluster} {cost:.0f}" for cluster, cost in sorted(ledger.costs.items()))
            took = time.process_time() - began
            console.print(f"seed {seed}, {name}: {figures.cost:.0f} ({spent}), {took:.0f} s of CPU")
    return found


def part(text: str) -> slice:
    """FIRST:END, of which both may be left out. Raises ValueError."""
    first, end = text.split(":")
    return slice(int(first) if first else None, int(end) if end else None)


def mean(figures: Sequence[Figures]) -> Figures:
    return Figures(*(sum(values) / len(values) for values in zip(*figures, strict=True)))


def table_of(found: Mapping[str, Sequence[Figures]], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in found:
        table.add_column(name, justify="right")
    for field, values in zip(Figures._fields, zip(*map(mean, found.values()), strict=True), strict=True):
        table.add_row(field.replace("_", " "), *(f"{value:.5g}" for value in values))
    return table


def result_of(found: Mapping[str, Sequence[Figures]], options: argparse.Namespace) -> dict[str, Any]:
    """Ratios are Flotilla's figure by the other's, so less than 1 is better; the least and the most of any seed beside
    that of all."""
    result: dict[str, Any] = {}
    for name, all_figures in found.items():
        key = name.replace(", ", "_").replace(" ", "_")
        result[key] = {field: round(value, 5) for field, value in mean(all_figures)._asdict().items()}
    for other in (REACTIVE, PRIORITY, FORESEEN):
        for mine, prefix in ((FLOTILLA, ""), (ROOMY, "head_room_"), (PRICED, "price_first_")):
            if not {other, mine} <= found.keys():
                continue
            for field in ("cost", "ready_p95", "short"):
                pairs = list(zip(found[mine], found[other], strict=True))
                name = f"{prefix}{field}_by_{other.replace(', ', '_')}"
                result[name] = _ratios([(getattr(one, field), getattr(two, field)) for one, two in pairs])
    machine_range = [options.machines.start, options.machines.stop]
    series = str(options.series.name)
    given = {name: getattr(options, name) for name in ("seeds", "workloads", "boot", "start", "hours")}
    return {**result, "series": series, "machines": machine_range, **given}


def _ratios(pairs: Sequence[tuple[float, float]]) -> list[float | None]:
    """Of the sums, the least, and the most; None where there is nothing to divide by."""
    each = [one / two for one, two in pairs if two]
    total = sum(two for _, two in pairs)
    values = [sum(one for one, _ in pairs) / total, min(each), max(each)] if total else []
    return [round(value, 4) for value in values] or [None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, default=SERIES, help="CSV: a column for each machine, percent of CPU")
    parser.add_argument("--seeds", type=int, default=3, help="divisions of the machines among workloads")
    parser.add_argument("--workloads", type=int, default=20)
    parser.add_argument("--boot", type=float, default=180.0, help="seconds from the order of a node until it is ready")
    parser.add_argument("--start", type=float, default=15.0, help="seconds from a pod's binding until it is ready")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--machines", type=part, default=slice(None), metavar="FIRST:END", help="columns that count")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    options = parser.parse_args()
    if not options.series.exists():
        sys.exit(f"{options.series} is not there: recorded CPU series, one column for each machine")
    console = Console(stderr=True)
    found = measure(options, console)
    console.print(table_of(found, f"{options.hours:g} hours, {options.seeds} divisions of the machines"))
    write_result(result_of(found, options))


if __name__ == "__main__":
    main()
