"""`fleet.waiting`: whether nodes come for replicas that have no place, and if not, why.

There is a record of each workload that waits for room while any node group is declared, and none of all others.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from shared.model.base import Value

# Why nodes come, or do not.
ORDERED: Final = "Ordered"
NO_GROUP_FITS: Final = "NoGroupFits"
CLUSTER_CLOSED: Final = "ClusterClosed"
LIMIT_REACHED: Final = "LimitReached"
OUT_OF_STOCK: Final = "OutOfStock"
PROVIDER_FAILED: Final = "ProviderFailed"
NO_PLACE_FOUND: Final = "NoPlaceFound"


class NodesAwaited(Value):
    """What the last plan of all node groups means for a workload that waits. One that says no more is not repeated.

    It is about the workload `uid` alone, and no earlier one of its name.
    """

    uid: str
    coming: bool = Field(
        description="all replicas that wait have room on nodes that are there, on their way, or were ordered"
    )
    reason: str = Field(
        description="Ordered; or NoGroupFits, ClusterClosed, LimitReached, OutOfStock, ProviderFailed or NoPlaceFound, "
        "of the first pod set for whose replicas not enough nodes come"
    )
    message: str = ""
    planned_at: int = Field(description="of the first plan that said so; Unix milliseconds")
