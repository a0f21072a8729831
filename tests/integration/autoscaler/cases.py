"""Random cases for the HorizontalPodAutoscaler: a workload's terms, and what is seen of it look by look.

As JSON, for the original; `answers` is what ours makes of the same.
"""

from __future__ import annotations

from random import Random
from typing import Any

from services.autoscaler.decision.horizontal.evaluation import evaluate, settle
from services.autoscaler.decision.horizontal.limits import Memory
from services.autoscaler.decision.horizontal.seen import (
    Container,
    Pod,
    PodSamples,
    Reading,
    Sample,
    Seen,
    Unmeasured,
    Values,
)
from services.autoscaler.decision.horizontal.terms import (
    Behavior,
    Defaults,
    Metric,
    MetricType,
    Policy,
    PolicyType,
    Rules,
    SelectPolicy,
    Target,
    Terms,
)

Json = dict[str, Any]

_RESOURCES = ("cpu", "memory")
_BY_POD = frozenset({"Resource", "ContainerResource", "Pods"})


def case(number: int) -> Json:
    random = Random(number)
    metrics = _metrics(random)
    least = random.choice([0, 1, 1, 1, 2, 5])
    behaves = random.random() < 0.6
    return {
        "min": least,
        "max": max(least, 1) + random.choice([0, 3, 10, 100]),
        "metrics": metrics,
        "behavior": {"scaleUp": _rules(random, up=True), "scaleDown": _rules(random, up=False)} if behaves else None,
        "tolerance": random.choice([0.1, 0.1, 0.0, 0.25]),
        "down_stabilization_s": random.choice([300, 300, 0, 60]),
        "cpu_initialization_ms": random.choice([300_000, 120_000]),
        "initial_readiness_ms": random.choice([30_000, 10_000]),
        "looks": _looks(random, metrics),
    }


def _metrics(random: Random) -> list[Json]:
    found: list[Json] = []
    for index in range(random.choice([1, 1, 1, 2, 2, 3])):
        kind = random.choice(["Resource", "Resource", "ContainerResource", "Pods", "Object", "External"])
        metric: Json = {"type": kind, "name": f"m{index}", "container": ""}
        metric |= dict.fromkeys(("utilization", "average_milli", "value_milli"))
        if kind in {"Resource", "ContainerResource"}:
            metric["name"] = random.choice(["cpu", "cpu", "memory"])
            metric["container"] = "c0" if kind == "ContainerResource" else ""
            if random.random() < 0.7:
                metric["utilization"] = random.choice([1, 30, 50, 80, 100, 150])
            else:
                metric["average_milli"] = random.choice([100, 500, 1000, 12345])
        elif kind == "Pods" or random.random() < 0.5:
            metric["average_milli"] = random.choice([1, 100, 500, 1000, 12345])
        else:
            metric["value_milli"] = random.choice([1, 100, 1000, 33333])
        if all((item["name"], item["container"]) != (metric["name"], metric["container"]) for item in found):
            found.append(metric)
    return found


def _rules(random: Random, *, up: bool) -> Json:
    policies = [
        {
            "type": random.choice(["Pods", "Percent"]),
            "value": random.choice([1, 2, 4, 10, 50, 100, 200]),
            "periodSeconds": random.choice([15, 30, 60, 300, 600]),
        }
        for _ in range(random.randint(1, 3))
    ]
    rules: Json = {"policies": policies, "selectPolicy": random.choice(["Max", "Max", "Max", "Min", "Disabled"])}
    if up or random.random() < 0.6:
        rules["stabilizationWindowSeconds"] = random.choice([0, 0, 15, 60, 300, 3600])
    if random.random() < 0.3:
        rules["tolerance"] = random.choice(["0", "50m", "200m", "500m"])
    return rules


def _looks(random: Random, metrics: list[Json]) -> list[Json]:
    size = first = random.randint(0 if random.random() < 0.1 else 1, 12)
    found, at = [], 0
    for index in range(random.randint(1, 8)):
        at += random.choice([1000, 15_000, 15_000, 15_000, 30_000, 60_000, 120_000, 300_000])
        size = max(0, size + random.choice([-2, -1, 0, 0, 0, 1, 2, 5]))
        pods = [_pod(random, number, at) for number in range(size)]
        base = random.choice([0, 10, 50, 100, 300, 1000, 5000])
        asked = random.randint(0, 15) if random.random() < 0.07 else None
        found.append(
            {
                "at_ms": at,
                "asked": asked if index else first,
                "there": random.choice([size, size, max(1, size)]),
                "pods": pods,
                "readings": [_reading(random, metric, pods, base, at) for metric in metrics],
            }
        )
    return found


def _pod(random: Random, number: int, at: int) -> Json:
    containers = [
        {
            "name": f"c{index}",
            "requests": {name: random.choice([100, 250, 1000]) for name in _RESOURCES if random.random() < 0.99},
        }
        for index in range(random.choice([1, 1, 2]))
    ]
    own = {"cpu": random.choice([500, 2000]), "memory": 1000} if random.random() < 0.03 else None
    started = (
        None if random.random() < 0.05 else at - random.choice([0, 5000, 25_000, 60_000, 299_000, 300_000, 900_000])
    )
    return {
        "key": f"p{number}",
        "phase": random.choice([*["Running"] * 12, "Pending", "Failed", "Succeeded"]),
        "containers": containers,
        "own_requests": own,
        "deleting": random.random() < 0.05,
        "ready": random.choice([*["True"] * 8, "False", "False", "Unknown", ""]),
        "ready_since_ms": at - random.choice([0, 1000, 20_000, 60_000, 400_000]),
        "started_ms": started,
    }


def _reading(random: Random, metric: Json, pods: list[Json], base: int, at: int) -> Json:
    found: Json = {"samples": {}, "values": [], "failed": random.random() < 0.08}
    if metric["type"] == "Object":
        found["values"] = [random.choice([0, 1, base * 10, base * 1000, 99_999])]
    elif metric["type"] == "External":
        found["values"] = [random.choice([0, base, base * 100]) for _ in range(random.randint(0, 3))]
    else:
        for pod in pods:
            if random.random() < 0.9:
                found["samples"][pod["key"]] = {
                    "milli": int(base * random.uniform(0.5, 1.5)),
                    "at_ms": at - random.choice([0, 15_000, 60_000]),
                    "window_ms": random.choice([15_000, 30_000, 60_000]),
                }
        if random.random() < 0.05:
            found["samples"]["unknown"] = {"milli": base, "at_ms": at, "window_ms": 30_000}
    return found


def answers(document: Json) -> list[tuple[int, bool]]:
    """At each look how many replicas are asked for then, and whether a metric failed."""
    terms, defaults, memory = terms_of(document), defaults_of(document), Memory()
    asked, found = 0, []
    for look in document["looks"]:
        asked = asked if look["asked"] is None else look["asked"]
        evaluation = evaluate(terms, defaults, seen_in(document, look, asked), memory, look["at_ms"])
        if evaluation.replicas not in {None, asked}:
            assert evaluation.replicas is not None
            settle(terms, memory, asked, evaluation.replicas, look["at_ms"])
            asked = evaluation.replicas
        found.append((asked, bool(evaluation.error)))
    return found


def seen_in(document: Json, look: Json, asked: int) -> Seen:
    readings = tuple(map(_read, document["metrics"], look["readings"]))
    return Seen(asked, look["there"], tuple(map(_built, look["pods"])), readings)


def terms_of(document: Json) -> Terms:
    metrics = tuple(
        Metric(
            MetricType(item["type"]),
            item["name"],
            Target(item["utilization"], item["average_milli"], item["value_milli"]),
            item["container"],
            "Service",
        )
        for item in document["metrics"]
    )
    behavior = document["behavior"]
    known = Behavior(_known(behavior["scaleUp"]), _known(behavior["scaleDown"])) if behavior is not None else None
    return Terms(document["max"], metrics, document["min"], known)


def _known(rules: Json) -> Rules:
    tolerance = rules.get("tolerance")
    return Rules(
        tuple(
            Policy(PolicyType(policy["type"]), policy["value"], policy["periodSeconds"]) for policy in rules["policies"]
        ),
        SelectPolicy(rules["selectPolicy"]),
        rules.get("stabilizationWindowSeconds"),
        None if tolerance is None else int(tolerance.removesuffix("m")) / 1000,
    )


def defaults_of(document: Json) -> Defaults:
    names = ("tolerance", "down_stabilization_s", "cpu_initialization_ms", "initial_readiness_ms")
    return Defaults(**{name: document[name] for name in names})


def _built(pod: Json) -> Pod:
    containers = tuple(Container(**item) for item in pod["containers"])
    return Pod(**{**pod, "containers": containers})


def _read(metric: Json, reading: Json) -> Reading:
    if reading["failed"]:
        return Unmeasured("no answer")
    if metric["type"] in _BY_POD:
        return PodSamples({key: Sample(**sample) for key, sample in reading["samples"].items()})
    return Values(tuple(reading["values"]))
