"""Whether pods get what is recommended, beside the Vertical Pod Autoscaler's updater, on random pods.

Left out, as by `worth` itself: pods that were killed for want of memory soon after they began.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from services.autoscaler.decision.nodes.scheduling import Stated
from services.autoscaler.decision.vertical.worth import LIFETIME_MS, worth
from shared.events.v1.usage import Requests, RequestsRecommended
from shared.events.v1.vertical import Vertical
from tests.integration.autoscaler.vertical.oracle import BUILD_S, Json, ask, cases

_RESOURCES = ("cpu", "memory")
_LEAST = {"cpu": 25, "memory": 250 << 20}


def case(number: int) -> Json:
    """A pod of some containers. `controlled` is only for us: of what is not, nothing is recommended to the original."""
    random = Random(number)
    containers = [_container(random, f"c{index}") for index in range(random.choice([1, 1, 2, 3]))]
    lived_ms = random.choice([0, LIFETIME_MS - 1, LIFETIME_MS, 100 * LIFETIME_MS])
    return {"containers": containers, "lived_ms": lived_ms}


def _container(random: Random, name: str) -> Json:
    controlled = random.choice([_RESOURCES, _RESOURCES, ("cpu",), ("memory",)])
    found: Json = {"name": name, "controlled": controlled, "requests_only": random.random() < 0.3}
    found |= {key: {} for key in ("requests", "limits", "min_allowed", "max_allowed", "lower", "target", "upper")}
    for resource in _RESOURCES:
        target = 11 * random.randint(_LEAST[resource], 40 * _LEAST[resource])
        if resource in controlled:
            found["lower"][resource] = random.choice([target, random.randint(_LEAST[resource], target)])
            found["target"][resource] = target
            found["upper"][resource] = random.choice([target, target * random.randint(1, 3)])
        # Near the target (at ten elevenths the change is a tenth), at a bound, or anywhere; or nothing is stated.
        if random.random() < 0.95:
            near = random.choice(
                [target * 10 // 11] * 3 + [round(target * part) for part in (0.9, 0.91, 1.0, 1.11, 1.12)]
            )
            bound = found[random.choice(["lower", "upper"])].get(resource, near)
            stated = random.choice([near, near, near, bound, bound + 1, bound - 1, random.randint(0, 3 * target)])
            found["requests"][resource] = stated
            if random.random() < 0.3:
                found["limits"][resource] = max(1, stated * random.randint(1, 4))
        if random.random() < 0.15:
            found["min_allowed"][resource] = random.choice([0, random.randint(1, 2 * target)])
        if random.random() < 0.15:
            most = random.choice([0, random.randint(1, 2 * target)])
            found["max_allowed"][resource] = max(most, found["min_allowed"].get(resource, 0)) if most else 0
    if random.random() < 0.05:
        found |= {"lower": None, "target": None, "upper": None}
    return found


def answer(asked: Json) -> Json:
    containers = [Stated(each["name"], each["requests"], each["limits"]) for each in asked["containers"]]
    recommended = {each["name"]: _recommended(each) for each in asked["containers"] if each["target"] is not None}
    policies = [_policy(each) for each in asked["containers"]]
    vertical = Vertical.model_validate({"resourcePolicy": {"containerPolicies": policies}})
    found = worth(containers, recommended, vertical)
    return {
        "update": bool(found.reason(asked["lived_ms"])),
        "outside": found.outside,
        "change": found.change,
        "targets": {each.name: _known({"cpu": each.cpu, "memory": each.memory}) for each in found.containers},
    }


def _recommended(each: Json) -> RequestsRecommended:
    bounds = {
        bound: Requests(cpu=each[bound].get("cpu", 0), memory=each[bound].get("memory", 0))
        for bound in ("lower", "target", "upper")
    }
    return RequestsRecommended(**bounds)


def _policy(each: Json) -> Json:
    def texts(amounts: dict[str, int]) -> dict[str, str]:
        return {name: f"{amount}m" if name == "cpu" else str(amount) for name, amount in amounts.items()}

    return {
        "containerName": each["name"],
        "minAllowed": texts(each["min_allowed"]),
        "maxAllowed": texts(each["max_allowed"]),
        "controlledResources": list(each["controlled"]),
        "controlledValues": "RequestsOnly" if each["requests_only"] else "RequestsAndLimits",
    }


def _known(amounts: dict[str, Any]) -> dict[str, int]:
    return {name: amount for name, amount in amounts.items() if amount is not None}


@pytest.mark.timeout(BUILD_S)
def test_it_updates_pods_as_the_original() -> None:
    asked = [case(number) for number in range(cases())]
    kinds = Counter[tuple[bool, bool, bool]]()
    for number, (document, wanted) in enumerate(zip(asked, ask(asked, "updater"), strict=True)):
        assert answer(document) == wanted, f"case {number}: {document}"
        kinds[wanted["update"], wanted["outside"], document["lived_ms"] >= LIFETIME_MS] += 1
    # Each way in which it may end, often: that pods are young, and a little change, keep others as they are.
    assert {kind for kind, count in kinds.items() if count > len(asked) / 50} == {
        (True, True, True),
        (True, True, False),
        (True, False, True),
        (False, False, True),
        (False, False, False),
    }
