"""`fleet.audit`: who did what through the hub or the command line."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.model.base import Value


class ActionAudited(Value):
    actor: str
    verb: Literal["create", "change", "apply", "delete"]
    kind: Literal["Cluster", "Workload"]
    name: str
    request_id: str = ""
    allowed: bool = True
    message: str = ""
    at: int = Field(description="Unix milliseconds")
