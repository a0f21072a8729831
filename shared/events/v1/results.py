"""`fleet.results`: what an executor did with a command."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.events.v1.leases import LeaseAsked
from shared.events.v1.policies import is_empty
from shared.model.base import Value

Outcome = Literal["applied", "withdrawn", "failed", "refused"]


class ObjectResult(Value):
    """An object that could not be brought to its desired state."""

    api_version: str
    kind: str
    namespace: str
    name: str
    reason: str
    message: str = ""


class NodeGroupReport(Value):
    """How it stands with a node group. Nodes that cannot be emptied are among the report's `failures`."""

    group: str
    size: int | None = Field(default=None, description="nodes that are asked of the provider; absent: it did not say")
    ready: int = Field(default=0, description="nodes that are there and Ready, those in `removing` left out")
    removing: tuple[str, ...] = Field(default=(), description="nodes that are being emptied or deleted")
    reason: str = Field(default="", description="OutOfStock, NotFound, Forbidden, ProviderUnavailable, ...")
    message: str = ""


class CommandReported(Value):
    """`failed` is tried again by the executor; `refused` was older than what had been applied already."""

    cluster: str
    subject: str
    epoch: int
    generation: int
    digest: str = Field(description="of the command; empty for a tombstone")
    outcome: Outcome
    reported_at: int = Field(description="Unix milliseconds")
    attempt: int = 1
    reason: str = ""
    message: str = ""
    objects: int = Field(default=0, description="objects and pods that are as desired")
    failures: tuple[ObjectResult, ...] = ()
    applied_generation: int | None = Field(default=None, description="newest generation applied, where refused")
    lease: LeaseAsked | None = Field(
        default=None, exclude_if=is_empty, description="with subject `lease`: this is no report, and asks for one"
    )
    node_group: NodeGroupReport | None = Field(
        default=None, exclude_if=is_empty, description="with subject nodegroup/<name>; told again when it changes"
    )
