"""Recommended requests beside the Vertical Pod Autoscaler's own, on $FLOTILLA_ORACLE_CASES random histories."""

from __future__ import annotations

from random import Random
from typing import Final

import pytest

from services.autoscaler.decision.vertical.estimates import recommended
from services.autoscaler.decision.vertical.use import ContainerUse, Instance
from shared.events.v1.usage import Requests
from tests.integration.autoscaler.vertical.oracle import BUILD_S, Json, ask, cases

_BEGIN: Final = 1_800_000_000_000
_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000


def case(number: int) -> Json:
    random = Random(number)
    containers = [_samples(random) for _ in range(random.choice([1, 1, 2, 3]))]
    restart = random.randrange(1 + max(map(len, containers))) if random.random() < 0.4 else -1
    return {"containers": containers, "restart": restart}


def _samples(random: Random) -> list[Json]:
    """Of some pods, a while apart: steadily or with gaps of weeks, near a level or all over the scale."""
    pods, at_ms, found = random.randint(1, 4), _BEGIN + random.randrange(_DAY_MS), []
    milli, memory = random.choice([0, 3, 100, 2500, 900_000]), random.choice([0, 10**6, 10**9, 64 * 10**9, 2 * 10**12])
    step_ms = random.choice([15_000, _MINUTE_MS, 40 * _MINUTE_MS, _DAY_MS // 2, 3 * _DAY_MS])
    for _ in range(random.choice([0, 1, 5, 60, 400])):
        at_ms += 1 + random.randrange(step_ms)
        if random.random() < 0.005:
            at_ms += random.choice([30, 120, 400]) * _DAY_MS
        spread = random.choice([0.0, 0.9, 1.0, 1.1, 5.0])
        pod, cpu, used = random.randrange(pods), int(milli * spread * random.random()), int(memory * random.random())
        found.append({"pod": pod, "cpu": cpu, "memory": used, "at_ms": at_ms})
    return found


def answers(asked: Json) -> list[Json]:
    uses = []
    for samples in asked["containers"]:
        use, pods = ContainerUse(), dict[int, Instance]()
        for index, one in enumerate(samples):
            if index == asked["restart"]:
                use, pods = ContainerUse.restored(use.told("c", recommended(use, 1))), {}
            use.add(pods.setdefault(one["pod"], Instance()), one["cpu"], one["memory"], one["at_ms"])
        uses.append(use)
    return [_amounts(use, len(uses)) for use in uses]


def _amounts(use: ContainerUse, containers: int) -> Json:
    made = recommended(use, containers)
    return {name: _pair(getattr(made, name)) for name in ("lower", "target", "upper")}


def _pair(requests: Requests) -> list[int]:
    return [requests.cpu, requests.memory]


@pytest.mark.timeout(BUILD_S)
def test_it_recommends_as_the_original() -> None:
    asked = [case(number) for number in range(cases())]
    kinds = set()
    for number, (document, wanted) in enumerate(zip(asked, ask(asked), strict=True)):
        ours = answers(document)
        assert ours == wanted, f"case {number}"
        kinds |= {tuple(one["target"]) for one in ours}
    # Cases that all come to the least would prove nothing.
    assert len(kinds) > len(asked) / 4
