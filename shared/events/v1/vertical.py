"""What a workload asks of vertical autoscaling, and what the autoscaler tells of it (`fleet.scaling`).

The section has the fields of a VerticalPodAutoscaler (k8s.io/autoscaler, `autoscaling.k8s.io/v1`), as far as they are
about the workload itself. Without it, and with mode Off, recommendations are shown and nothing is changed.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from shared.events.v1.policies import is_empty
from shared.model.base import StrictValue, Value
from shared.model.quantities import NonNegativeQuantity, parse_quantity, resource_amount

ANY_CONTAINER: Final = "*"
MAX_CONTAINER_POLICIES: Final = 64
# What `PodSetRequests.state` says where nothing is to be done.
AS_RECOMMENDED: Final = "AsRecommended"

Controlled = Literal["cpu", "memory"]
_ContainerName = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)$")]


class UpdatePolicy(StrictValue):
    """When pods get other requests. Recreate and Auto are the same: a rolling update of their template."""

    update_mode: Literal["Off", "Initial", "Recreate", "Auto"] = Field(
        default="Off",
        description="Off: shown only; Initial: with the next change of the workload, which makes its pods anew anyway; "
        "Recreate and Auto: also where pods run, by a rolling update",
    )


class ContainerPolicy(StrictValue):
    """Of the containers of one name, or of all that have no policy of their own."""

    container_name: _ContainerName = Field(
        default=ANY_CONTAINER, description="name of the container; * for all without a policy of their own"
    )
    mode: Literal["Auto", "Off"] = Field(default="Auto", description="Off: its requests stay as they are stated")
    min_allowed: dict[Controlled, NonNegativeQuantity] = Field(
        default_factory=dict, exclude_if=is_empty, description="never less than this is requested"
    )
    max_allowed: dict[Controlled, NonNegativeQuantity] = Field(
        default_factory=dict, exclude_if=is_empty, description="never more than this is requested"
    )
    controlled_resources: tuple[Controlled, ...] = Field(
        default=("cpu", "memory"), max_length=2, description="of which resources requests are changed"
    )
    controlled_values: Literal["RequestsAndLimits", "RequestsOnly"] = Field(
        default="RequestsAndLimits",
        description="RequestsAndLimits: limits stay in proportion to requests; RequestsOnly: limits stay as they are",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, least in self.min_allowed.items():
            most = self.max_allowed.get(name)
            if most is not None and parse_quantity(least) > parse_quantity(most) > 0:
                raise ValueError(f"minAllowed.{name} {least} must not be more than maxAllowed.{name} {most}")
        return self

    def bounded(self, resource: Controlled, amount: int) -> int:
        """An amount within what is allowed: cpu in thousandths, memory in bytes. Where nothing, or 0, is said it is as
        it is.
        """
        least, most = self.min_allowed.get(resource), self.max_allowed.get(resource)
        if least is not None:
            amount = max(amount, resource_amount(resource, least))
        if most is not None and (limit := resource_amount(resource, most)):
            amount = min(amount, limit)
        return amount


class ResourcePolicy(StrictValue):
    container_policies: tuple[ContainerPolicy, ...] = Field(
        default=(), max_length=MAX_CONTAINER_POLICIES, exclude_if=is_empty, description="by container; one for each"
    )

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        seen: set[str] = set()
        for index, policy in enumerate(self.container_policies):
            if policy.container_name in seen:
                raise ValueError(f"containerPolicies.{index}.containerName {policy.container_name!r} is used twice")
            seen.add(policy.container_name)
        return self


_BY_DEFAULT: Final = ContainerPolicy()


class Vertical(StrictValue):
    """Requests of containers follow what they use, over all clusters together."""

    update_policy: UpdatePolicy = UpdatePolicy()
    resource_policy: ResourcePolicy = ResourcePolicy()

    @property
    def applies(self) -> bool:
        """Whether anything is changed, ever."""
        return self.update_policy.update_mode != "Off"

    @property
    def rolls(self) -> bool:
        """Whether pods that run are replaced for it."""
        return self.update_policy.update_mode in {"Recreate", "Auto"}

    def policy_of(self, container: str) -> ContainerPolicy | None:
        """The policy of a container, by its name before that of all; None where its requests stay as they are."""
        policies = {policy.container_name: policy for policy in self.resource_policy.container_policies}
        policy = policies.get(container) or policies.get(ANY_CONTAINER, _BY_DEFAULT)
        return policy if policy.mode != "Off" else None


class ContainerRequests(Value):
    """What a container is to request. What is absent stays as the workload states it."""

    name: str
    cpu: int | None = Field(default=None, ge=0, description="thousandths of a core")
    memory: int | None = Field(default=None, ge=0, description="bytes")

    def of(self, resource: Controlled) -> int | None:
        return self.cpu if resource == "cpu" else self.memory


class PodSetRequests(Value):
    """What the containers of a pod set are to request, and whether that is what is recommended now.

    `state` is AsRecommended, or why what is recommended is not applied, or not yet.
    """

    name: str
    containers: tuple[ContainerRequests, ...] = Field(
        default=(), exclude_if=is_empty, description="absent as long as they request what the workload states"
    )
    at: int | None = Field(default=None, description="since when, in Unix milliseconds")
    reason: str = Field(default="", exclude_if=is_empty, description="why these were applied")
    state: str
    message: str = Field(default="", exclude_if=is_empty)
