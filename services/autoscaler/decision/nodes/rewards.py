"""What a candidate is worth: `Σ r_i · u_i(k)` over named utilities, each with its configurable weight.

The utilities are at most 1, and more is better:

- price: 1 less what is added to the fleet's price an hour, in parts of twice the least that it could be
  (`growing.least_price`), or taken from it. Below zero where more is added than twice the least;
- head_room: the part of the wished head-room that has room, beside all that waits. How much has room comes before what
  sizes are worth, as pods do; the utility says what is lacking, where limits allow no more;
- disruption: the part of the pods that run which stay where they are;
- availability: of the new nodes' groups, how likely their providers have them, by what they lacked lately (`stock`);
- fit: the part of the new nodes' cpu and memory that is used.

Price outweighs the rest: among candidates with equal head-room a saving of a fiftieth of the least price outweighs any
difference of fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from services.autoscaler.decision.nodes.seen import Limits

Utilities = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Rewards:
    """The weights r_i; see the module."""

    price: float = 10.0
    head_room: float = 5.0
    disruption: float = 1.0
    availability: float = 0.5
    fit: float = 0.05

    def __post_init__(self) -> None:
        for name in NAMES:
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"the reward of {name} must be zero or more, not {getattr(self, name)}")

    def of(self, utilities: Utilities) -> float:
        return sum((float(getattr(self, name)) * utilities[name] for name in NAMES), 0.0)


NAMES: tuple[str, ...] = tuple(item.name for item in fields(Rewards))


@dataclass(frozen=True, slots=True)
class Policy:
    """`limits` of the whole fleet; clusters say theirs themselves. `most_trials` candidates are tried on the node table
    for one plan, and no more than come to `most_work` pods and nodes; where the search begins is always tried.

    Down: a node goes when it was not needed for `unneeded_ms`, at most `most_draining` at a time. One is replaced by
    a cheaper one if that saves more than the part `least_saving` of its price.
    """

    rewards: Rewards = field(default_factory=Rewards)
    limits: Limits = field(default_factory=Limits)
    most_trials: int = 400
    most_work: int = 100_000
    unneeded_ms: int = 600_000
    most_draining: int = 10
    least_saving: float = 0.1
