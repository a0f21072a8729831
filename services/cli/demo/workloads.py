"""The demo's stream of requests: seeded, and each with the phase in which it should end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase

# What a web team, a data team and a platform team would ask for: image, cpu, memory, replicas.
_SHAPES = (
    ("nginx", "100m", "128Mi", (1, 3)),
    ("redis", "250m", "256Mi", (1, 2)),
    ("python", "500m", "512Mi", (1, 4)),
    ("busybox", "50m", "64Mi", (2, 5)),
)
_EVERY_WAITING = 25
_EVERY_REJECTED = 40
_EVERY_NODE_BOUND = 5
# On simulated clusters its pods use so much of what they request, in turn; real ones have a steady load of their own.
_TIDE = {"simulator.flotilla.dev/load": "140,20", "simulator.flotilla.dev/load-seconds": "20"}


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """`malformed` goes out as it is, instead of `request`."""

    key: str
    request: WorkloadRequested
    expected: Phase
    malformed: bytes = b""


def stream(seed: int) -> Iterator[DemoRequest]:
    """Without end: one that is scaled, then mostly workloads that run; some that fit nowhere, some that are wrong."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable demo, not a secret
    number = 0
    yield _scaled()
    while True:
        number += 1
        if number % _EVERY_REJECTED == 0:
            yield _malformed(number)
        elif number % _EVERY_WAITING == 0:
            yield _waiting(number)
        else:
            yield _running(number, rng)


def _running(number: int, rng: random.Random) -> DemoRequest:
    image, cpu, memory, (low, high) = rng.choice(_SHAPES)
    binding = "node" if number % _EVERY_NODE_BOUND == 0 else "cluster"
    name = f"{image}-{number:04d}"
    return _request(name, image, cpu, memory, rng.randint(low, high), binding, Phase.RUNNING)


def _scaled() -> DemoRequest:
    """Grows and shrinks as fast as its load: as far as is wanted, without waiting whether it lasts."""
    container = {"name": "main", "image": "nginx", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}
    at_once = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 10, "periodSeconds": 5}]}
    target = {"type": "Utilization", "averageUtilization": 70}
    return _published(
        {
            "namespace": "demo",
            "name": "tide",
            "labels": {"app": "tide"},
            "podSets": [
                {
                    "name": "main",
                    "replicas": 2,
                    "template": {"metadata": {"annotations": _TIDE}, "spec": {"containers": [container]}},
                }
            ],
            "scaling": {
                "minReplicas": 2,
                "maxReplicas": 12,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
                "behavior": {"scaleUp": at_once, "scaleDown": at_once},
            },
        },
        Phase.RUNNING,
    )


def _waiting(number: int) -> DemoRequest:
    """No node of the demo has that much memory."""
    return _request(f"giant-{number:04d}", "nginx", "1", "4Ti", 1, "cluster", Phase.PENDING)


def _malformed(number: int) -> DemoRequest:
    good = _request(f"wrong-{number:04d}", "nginx", "100m", "1Gi", 1, "cluster", Phase.REJECTED)
    return DemoRequest(
        good.key, good.request, Phase.REJECTED, malformed=good.request.to_json().replace(b'"100m"', b'"a hundred"')
    )


def _request(name: str, image: str, cpu: str, memory: str, replicas: int, binding: str, expected: Phase) -> DemoRequest:
    return _published(
        {
            "namespace": "demo",
            "name": name,
            "labels": {"app": image},
            "podSets": [
                {
                    "name": "main",
                    "replicas": replicas,
                    "image": image,
                    "resources": {"requests": {"cpu": cpu, "memory": memory}},
                }
            ],
            "placement": {"binding": binding},
        },
        expected,
    )


def _published(workload: dict[str, Any], expected: Phase) -> DemoRequest:
    request = WorkloadRequested.model_validate({"operation": "apply", "workload": workload})
    return DemoRequest(str(request.key), request, expected)
