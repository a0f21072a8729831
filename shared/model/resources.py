"""Requests and limits of containers and pods, and what a whole pod asks of a node.

Source of the effective request: k8s.io/component-helpers/resource `PodRequests` (KEP-753 for sidecars,
KEP-2837 for requests of the whole pod).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from shared.model.base import StrictValue
from shared.model.names import LabelKey
from shared.model.quantities import NonNegativeQuantity, parse_quantity, resource_amount

ResourceName = LabelKey
Amounts = dict[str, int]

# What a node has of its own; every other resource is extended: whole, and never overcommitted.
NATIVE_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage", "pods"})


class Resources(StrictValue):
    """`corev1.ResourceRequirements`: what is missing from requests is taken from limits."""

    requests: dict[ResourceName, NonNegativeQuantity] = Field(
        default_factory=dict, description="what each pod needs to be placed, by resource, such as cpu: 500m"
    )
    limits: dict[ResourceName, NonNegativeQuantity] = Field(
        default_factory=dict, description="what each pod may use at most, by resource"
    )

    @model_validator(mode="after")
    def _requests_within_limits(self) -> Self:
        for name, request in self.requests.items():
            limit = self.limits.get(name)
            if limit is not None and parse_quantity(request) > parse_quantity(limit):
                raise ValueError(f"requests.{name} {request} is more than limits.{name} {limit}")
        return self


class ContainerResources(Resources):
    """The same in a pod template, where Kubernetes has further fields."""

    model_config = ConfigDict(extra="ignore")


def is_extended(resource: str) -> bool:
    """Whether it is counted in whole devices, or whatever else a plugin of the node gives out."""
    return resource not in NATIVE_RESOURCES and not resource.startswith("hugepages-")


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """What one container asks for. A sidecar is an init container that goes on beside the others."""

    requests: Mapping[str, str]
    limits: Mapping[str, str]
    sidecar: bool = False

    def amounts(self) -> Amounts:
        amounts = {name: amount_of(name, text) for name, text in self.requests.items()}
        for name, text in self.limits.items():
            if name not in amounts:
                amounts[name] = amount_of(name, text)
        return amounts


@lru_cache(maxsize=8192)
def amount_of(resource: str, text: str) -> int:
    """`resource_amount`, remembered: a fleet uses few different quantities."""
    return resource_amount(resource, text)


def effective_requests(
    containers: Iterable[ContainerRequest],
    init_containers: Iterable[ContainerRequest] = (),
    overhead: Mapping[str, str] | None = None,
    pod_level: ContainerRequest | None = None,
) -> Amounts:
    """What the whole pod asks of its node, `pods: 1` included; resources of which it asks nothing are left out.

    `max(containers + sidecars, each init container + the sidecars before it) + overhead`; requests for the
    whole pod take the place of what its containers ask.
    """
    running: Amounts = {}
    for container in containers:
        _add(running, container.amounts())
    sidecars: Amounts = {}
    highest: Amounts = {}
    for init in init_containers:
        amounts = init.amounts()
        if init.sidecar:
            _add(sidecars, amounts)
            amounts = sidecars
        else:
            amounts = dict(amounts)
            _add(amounts, sidecars)
        _raise(highest, amounts)
    _add(running, sidecars)
    _raise(running, highest)
    if pod_level is not None:
        running.update(pod_level.amounts())
    for name, text in (overhead or {}).items():
        running[name] = running.get(name, 0) + amount_of(name, text)
    running["pods"] = 1
    return {name: amount for name, amount in running.items() if amount}


def _add(total: Amounts, more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise(total: Amounts, floor: Mapping[str, int]) -> None:
    for name, amount in floor.items():
        if amount > total.get(name, 0):
            total[name] = amount
