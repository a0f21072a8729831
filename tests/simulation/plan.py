"""What one simulation consists of: the fleet, what people do, and what breaks. Data, to be written and replayed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Json = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClusterPlan(_Part):
    """One cluster: its nodes, what one of them costs an hour, and how long its pods take to start."""

    name: str
    nodes: int
    cpu: int
    pod_start_s: float = 1.0
    price: float = 0.0


class Request(_Part):
    """A record that a user appends to `fleet.requests`; `repeated` ones are sent twice, as a client may do."""

    at_s: float
    key: str
    value: Json | str
    repeated: bool = False


class Order(_Part):
    """What a user makes of a Workload in the hub's API: `spec` is applied; without one the object is deleted."""

    at_s: float
    name: str
    spec: Json | None = None


class Action(_Part):
    """What people and machines do in the clusters themselves: `what` names a method of `people.People`."""

    at_s: float
    what: str
    cluster: str
    number: int = 0


class Fault(_Part):
    """One thing that breaks. `kind` names a method of `faults.Faults`; what the numbers mean stands there."""

    at_s: float
    kind: str
    target: str
    seconds: float = 0.0
    number: int = 0


class Plan(_Part):
    """`busy_s` is when the last request was sent and the last fault began; after it everything is healed.

    `fenced`: the broker refuses writers that were replaced. Without, promises must hold by the order of the log alone.
    """

    seed: int
    clusters: tuple[ClusterPlan, ...]
    agents: Literal["each", "shared"] = "each"
    schedulers: int = 2
    fenced: bool = True
    # Replicas of the hub; without any there is no hub cluster either, and nobody orders anything there.
    hubs: int = 0
    # The fleet's queues, as the scheduler's settings have them.
    queues: dict[str, Json] = {}
    requests: tuple[Request, ...] = ()
    orders: tuple[Order, ...] = ()
    actions: tuple[Action, ...] = ()
    faults: tuple[Fault, ...] = ()
    busy_s: float = 60.0
    quiet_s: float = 0.0

    def stretched(self, hours: float) -> Plan:
        """The same, but that so many hours pass until all is healed. What lasts for a while lasts as long as before."""
        longer = hours * 3600 / self.busy_s
        parts: dict[str, Any] = {
            name: tuple(part.model_copy(update={"at_s": part.at_s * longer}) for part in getattr(self, name))
            for name in ("requests", "orders", "actions", "faults")
        }
        return self.model_copy(update={**parts, "busy_s": hours * 3600})
