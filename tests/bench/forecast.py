"""`python -m tests.bench.forecast`: how often there are too few replicas, and how many too many, by a forecast or not.

Recorded CPU use of 200 machines of PlanetLab, one day of each (`../shared/data/planetlab`). A workload's day is the use
of 25 machines together; seven such days are its history, and the eighth, of machines that none of the others has, is
the one that is scaled; each of the eight in turn, for several random divisions. So the history says what this
population does at a time of the day, and nothing of the day that is looked at was known.

What the data cannot show: whether the same workload does the same on the next day, since there is one day of each
machine; weeks, and odd days. Machines of PlanetLab are spread over the time zones of the world, so they have little of
a day in common. Therefore two more: the same days, each begun at a moment of its own, so that nothing is left to learn
(what a forecast costs in vain); and the same days with two and a half times the use from eight to six, which is made up
(what it is worth where there is a pattern, with recorded noise around it).

Whoever has more replicas has too few more seldom, also without any forecast. So beside both stands the reactive rule
with a target that is lower by as much as makes it have as many replicas on average as the forecast has.

The algorithm looks every 15 s, by an external metric with the fleet's default tolerance and window; a replica that is
asked for is ready after two minutes. Too few: the load is more than a tenth above what the ready replicas take at
their target.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from services.autoscaler.decision.forecast import Demand
from services.autoscaler.decision.horizontal.evaluation import evaluate, settle
from services.autoscaler.decision.horizontal.limits import Memory
from services.autoscaler.decision.horizontal.seen import Seen, Values
from services.autoscaler.decision.horizontal.terms import Defaults, Metric, MetricType, Target, Terms
from shared.events.v1.forecasts import ScalingForecast
from tests.bench.support import write_result

SERIES = Path(__file__).parents[3] / "shared/data/planetlab/cpu_20110303.csv"
DAY_MS = 86_400_000
SLOT_MS = 300_000
LOOK_MS = 15_000
# What a replica takes at its target, in percent of a machine.
EACH = 10.0
LEVEL = 1.1
HISTORY = 7

Day = Sequence[float]


class Outcome(NamedTuple):
    """`under`: share of time with too few; `short`: replicas that lacked, of those needed; `over`: those too many."""

    under: float
    short: float
    over: float


def machines(path: Path) -> list[Day]:
    with path.open() as lines:
        rows = [[float(value) for value in row[1:]] for row in list(csv.reader(lines))[1:]]
    return [tuple(column) for column in zip(*rows, strict=True)]


def days(series: Sequence[Day], random: Random) -> list[Day]:
    """The use of as many machines each, every machine once."""
    order = random.sample(series, len(series))
    size = len(order) // (HISTORY + 1)
    groups = [order[size * number : size * (number + 1)] for number in range(HISTORY + 1)]
    return [tuple(map(sum, zip(*group, strict=True))) for group in groups]


def moved(given: list[Day], random: Random) -> list[Day]:
    found: list[Day] = []
    for day in given:
        begin = random.randrange(len(day))
        found.append((*day[begin:], *day[:begin]))
    return found


def curved(given: list[Day], random: Random) -> list[Day]:
    del random
    return [
        tuple(value * (2.5 if 8 <= 24 * slot / len(day) < 18 else 1.0) for slot, value in enumerate(day))
        for day in given
    ]


def recorded(given: list[Day], random: Random) -> list[Day]:
    del random
    return given


def history(given: Sequence[Day], ahead_s: int) -> Demand:
    demand = Demand(ScalingForecast(ahead_seconds=ahead_s, history_periods=len(given)))
    for number, day in enumerate(given):
        for slot, value in enumerate(day):
            demand.note(value / EACH, number * DAY_MS + slot * SLOT_MS)
    return demand


def scale(day: Day, demand: Demand | None, ready_s: int, lower: float = 1.0) -> Outcome:
    """One day behind the history, from as many replicas as its beginning needs; `lower` is the target's factor."""
    target = Target(average_milli=round(1000 * EACH * lower))
    terms = Terms(1000, (Metric(MetricType.EXTERNAL, "load", target),), 1)
    memory, defaults = Memory(), Defaults()
    asked = ready = math.ceil(day[0] / (EACH * lower))
    coming: deque[tuple[int, int]] = deque()
    under = short = over = needed = 0.0
    for at_ms in range(0, DAY_MS, LOOK_MS):
        now_ms, load = HISTORY * DAY_MS + at_ms, day[at_ms // SLOT_MS]
        while coming and coming[0][0] <= now_ms:
            ready = min(ready + coming.popleft()[1], asked)
        under += load > LEVEL * ready * EACH
        needed += load / EACH
        short += max(0.0, load / EACH - ready)
        over += max(0.0, ready - load / EACH)
        seen = Seen(asked, asked, (), (Values((round(1000 * load),)),))
        expected = demand.forecast(now_ms).replicas if demand is not None else None
        result = evaluate(terms, defaults, seen, memory, now_ms, expected)
        if demand is not None:
            demand.note(result.needed, now_ms)
        if result.replicas is not None and result.replicas != asked:
            settle(terms, memory, asked, result.replicas, now_ms)
            if result.replicas > asked:
                coming.append((now_ms + 1000 * ready_s, result.replicas - asked))
            asked = result.replicas
            ready = min(ready, asked)
    return Outcome(under * LOOK_MS / DAY_MS, short / needed, over / needed)


def mean(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(*(sum(values) / len(values) for values in zip(*outcomes, strict=True)))


def as_many(tried: Sequence[Day], wanted: float, ready_s: int) -> Outcome:
    """The reactive rule with the target by which it has as many replicas too many as `wanted`."""
    low, high = 0.3, 1.0
    for _ in range(6):
        middle = (low + high) / 2
        if mean([scale(day, None, ready_s, middle) for day in tried]).over > wanted:
            low = middle
        else:
            high = middle
    return mean([scale(day, None, ready_s, high) for day in tried])


def measure(path: Path, divisions: int, ahead_s: int, ready_s: int) -> dict[str, dict[str, Outcome]]:
    """By kind of day, and by who scales."""
    series = machines(path)
    kinds: dict[str, Callable[[list[Day], Random], list[Day]]] = {
        "recorded": recorded,
        "no_pattern": moved,
        "made_pattern": curved,
    }
    found = {}
    for name, change in kinds.items():
        tried: list[Day] = []
        ahead = []
        for seed in range(divisions):
            random = Random(seed)
            given = change(days(series, random), random)
            for unseen, day in enumerate(given):
                former = [other for number, other in enumerate(given) if number != unseen]
                tried.append(day)
                ahead.append(scale(day, history(former, ahead_s), ready_s))
        reactive, forecast = mean([scale(day, None, ready_s) for day in tried]), mean(ahead)
        found[name] = {
            "reactive": reactive,
            "forecast": forecast,
            "lower_target": as_many(tried, forecast.over, ready_s),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.forecast", description=__doc__)
    parser.add_argument("--series", type=Path, default=SERIES)
    parser.add_argument("--divisions", type=int, default=2, help="random divisions of the machines: eight days each")
    parser.add_argument("--ahead", type=int, default=600, help="seconds")
    parser.add_argument("--ready", type=int, default=120, help="seconds until a replica is ready")
    arguments = parser.parse_args()
    if not arguments.series.exists():
        sys.exit(f"{arguments.series} is not there: recorded CPU series of PlanetLab, one column for each machine")
    found = measure(arguments.series, arguments.divisions, arguments.ahead, arguments.ready)
    table = Table(title=f"{8 * arguments.divisions} days that were not seen before", title_justify="left")
    for column in ("day", "scaled by", "too few", "lacking", "too many"):
        table.add_column(column, justify="right" if column[0] in "tl" else "left")
    figures: dict[str, float] = {}
    for kind, outcomes in found.items():
        for name, outcome in outcomes.items():
            table.add_row(
                kind.replace("_", " "), name.replace("_", " "), *(f"{100 * value:.2f} %" for value in outcome)
            )
            figures |= {f"{kind}_{name}_{part}": round(value, 5) for part, value in outcome._asdict().items()}
    Console().print(table)
    write_result({"days": 8 * arguments.divisions, "ahead_s": arguments.ahead, "ready_s": arguments.ready, **figures})


if __name__ == "__main__":
    main()
