"""Whether containers should get the requests that are recommended, or keep those that they have.

As the updater has it: they do where a request is surely wrong, beyond the bounds of the recommendation; and where pods
have run for long, if the recommendation differs from what they request by a tenth in all.

Source: pkg/updater/priority (update_priority_calculator.go, priority_processor.go) and its flags' defaults
(pkg/updater/config), pkg/utils/vpa/capping.go of k8s.io/autoscaler/vertical-pod-autoscaler. Left out: pods that were
killed for want of memory soon after they began.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from services.autoscaler.decision.nodes.scheduling import Stated, capped
from shared.events.v1.usage import Requests, RequestsRecommended
from shared.events.v1.vertical import ContainerPolicy, ContainerRequests, Controlled, Vertical

# --pod-update-threshold, --in-recommendation-bounds-eviction-lifetime-threshold
LEAST_CHANGE: Final = 0.1
LIFETIME_MS: Final = 12 * 3_600_000
# It counts in thousandths of a core and of a byte, and nothing as one of them.
_UNITS: Final = {"cpu": 1, "memory": 1000}

OUTSIDE: Final = "OutsideRecommendedRange"
DIFFERS: Final = "ResourceDiff"


class Worth(NamedTuple):
    """`outside`: some request is beyond its bounds. `change`: of each resource, the part of what all containers request
    that would be another, added up. `containers` are what is recommended, within the policy; none if nothing is.
    """

    outside: bool
    change: float
    containers: tuple[ContainerRequests, ...]

    def reason(self, lived_ms: int) -> str:
        """Why pods of which one has lived so long should get it; empty if they should not."""
        if not self.containers:
            return ""
        if self.outside:
            return OUTSIDE
        return DIFFERS if lived_ms >= LIFETIME_MS and self.change >= LEAST_CHANGE else ""


def worth(containers: Iterable[Stated], recommended: Mapping[str, RequestsRecommended], vertical: Vertical) -> Worth:
    """`containers` as pods have them now; `recommended` by container."""
    outside, wanted = False, []
    asked, target = Counter[str](), Counter[str]()
    for container in containers:
        policy, made = vertical.policy_of(container.name), recommended.get(container.name)
        if policy is None or made is None:
            continue
        amounts: dict[str, int] = {}
        for resource in policy.controlled_resources:
            lower, most = (_amount(container, policy, resource, each) for each in (made.lower, made.upper))
            amounts[resource] = _amount(container, policy, resource, made.target)
            target[resource] += amounts[resource]
            request = container.requests.get(resource)
            asked[resource] += request or 0
            outside |= request is None or not lower <= request <= most
        wanted.append(ContainerRequests(name=container.name, cpu=amounts.get("cpu"), memory=amounts.get("memory")))
    change = sum((_change(asked[name] * _UNITS[name], target[name] * _UNITS[name]) for name in target), 0.0)
    return Worth(outside, change, tuple(item for item in wanted if item.cpu is not None or item.memory is not None))


def _change(asked: int, target: int) -> float:
    return abs(max(asked, 1) - target) / max(asked, 1)


def _amount(container: Stated, policy: ContainerPolicy, resource: Controlled, amounts: Requests) -> int:
    return capped(container, policy, resource, amounts.cpu if resource == "cpu" else amounts.memory)
