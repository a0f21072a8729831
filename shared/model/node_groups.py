"""What is known of a node group at its provider, and why a provider does not do what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

OUT_OF_STOCK: Final = "OutOfStock"
NOT_FOUND: Final = "NotFound"
FORBIDDEN: Final = "Forbidden"
PROVIDER_UNAVAILABLE: Final = "ProviderUnavailable"
# Nothing that time heals: the provider does not understand, or may not do, what it is asked.
REFUSED: Final = "Refused"

# What clouds say when there is no machine to be had, as their APIs and Cluster API's conditions quote it.
_STOCK_WORDS: Final = (
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "InstanceLimitExceeded",
    "VcpuLimitExceeded",
    "UnfulfillableCapacity",
    "SpotMaxPriceTooLow",
    "ZONE_RESOURCE_POOL_EXHAUSTED",
    "QUOTA_EXCEEDED",
    "QuotaExceeded",
    "AllocationFailed",
    "OverconstrainedAllocationRequest",
    "SkuNotAvailable",
    "OutOfStock",
    # Sentences that stand in Auto Scaling's activities and EKS's health issues without a code.
    "currently do not have sufficient",
    "no Spot capacity available",
    "Your quota allows for",
    "more vCPU capacity than your current",
    "InsufficientFreeAddresses",
    "not enough free addresses",
)


def is_out_of_stock(text: str) -> bool:
    """Whether what a cloud says means that it has no such machine now."""
    return any(word in text for word in _STOCK_WORDS)


@dataclass(frozen=True, slots=True)
class NodeRef:
    """A node by its name, and by what its provider knows it by (`spec.providerID`), which may be empty."""

    name: str
    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class GroupState:
    """`size` is how many nodes the provider was asked for; `nodes` are those that it has, by name, and whether each is
    leaving. `unjoined` are machines that have no node yet and could not be told from others if fewer were asked for.

    `reason` and `message` say why nodes that were asked for do not come.
    """

    size: int
    nodes: Mapping[str, bool] = field(default_factory=dict)
    unjoined: int = 0
    reason: str = ""
    message: str = ""
