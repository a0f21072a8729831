"""A Cluster that is provisioned: what is asked of its management cluster, and the steps by which it ends.

Making it is level-triggered: every so often what is wanted is applied again, and what is seen becomes the condition
`Provisioned`. Ending it goes in steps, each of which can be seen from outside, so that a hub that dies goes on where
it was: closed and drained (the declaration says so, and workloads leave by the scheduler's own rules); then the agents
leave, and the cluster is deleted; then its declaration is taken back, and the finalizer goes last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from services.hub.decision.conditions import Truth
from services.hub.decision.drain import Holder, holders
from services.hub.decision.instructions import Deprovision, Item, Look, ProvisionSeen, PublishDeclaration
from services.hub.decision.instructions import Provision as ProvisionIt
from services.hub.decision.resources import FINALIZER, ClusterSpec
from services.hub.decision.state import Policy, State
from services.hub.decision.views import ClusterView
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.provisioning import ClusterApiProvision, ProvisionDeclared, SimulatorProvision
from shared.kernel.machine import Instruction
from shared.model.provisioning import (
    DRAINING,
    FORBIDDEN,
    FORCE_DELETE_ANNOTATION,
    NAME_CONFLICT,
    NO_ROOM,
    PROVISIONED,
    PROVISIONING,
    REFUSED,
    Stage,
    Standing,
)

PROVISIONED_CONDITION: Final = "Provisioned"
DRAINED_CONDITION: Final = "Drained"
_SHOWN: Final = 5
# Once a second it is looked whether a cluster is empty by now.
_DRAIN_LOOK_MS: Final = 1_000
# Asked again at once they would be told the same.
_FINAL: Final = frozenset({FORBIDDEN, REFUSED, NAME_CONFLICT, NO_ROOM})


@dataclass(frozen=True, slots=True)
class Said:
    """A condition to be written."""

    kind: str
    status: Truth
    reason: str
    message: str = ""


def needs_finalizer(view: ClusterView) -> bool:
    """Whether something may be made for it that its deletion has to take away."""
    return FINALIZER not in view.meta.finalizers and _wanted(view) is not None


def declared_provision(spec: ClusterSpec) -> ProvisionDeclared | None:
    """What the fleet is told of it; of Cluster API's only that it is: variables may be secrets."""
    match spec.provision:
        case SimulatorProvision(nodes=nodes):
            return ProvisionDeclared(provider="simulator", nodes=nodes)
        case ClusterApiProvision(provider=provider):
            return ProvisionDeclared(provider=provider)
    return None


def _wanted(view: ClusterView) -> ClusterApiProvision | SimulatorProvision | None:
    return view.declared.provision if isinstance(view.declared, ClusterSpec) else None


class Provisioning:
    """One Cluster at one moment."""

    def __init__(self, view: ClusterView, state: State, policy: Policy, now_ms: int, cause: str) -> None:
        self._view = view
        self._name = view.meta.name
        self._item = Item("", self._name)
        self._state = state
        self._policy = policy
        self._now_ms = now_ms
        self._cause = cause
        self._wanted = _wanted(view)
        self._seen = self._last_seen()

    # Making it

    def ask(self) -> Iterator[Instruction]:
        """Of the management cluster, if it is time."""
        if isinstance(self._wanted, ClusterApiProvision) and self._policy.provision:
            reason = self._seen.standing.reason if self._seen is not None else ""
            patient = reason == PROVISIONED or reason in _FINAL
            meta = self._view.meta
            ask = ProvisionIt(
                cause=self._cause, name=self._name, uid=meta.uid, generation=meta.generation, wanted=self._wanted
            )
            yield from self._ask(ask, self._policy.provision_ms if patient else self._policy.provision_busy_ms)

    def _ask(self, ask: ProvisionIt | Deprovision, every_ms: int) -> Iterator[Instruction]:
        before = self._state.asked.get(self._name)
        left_ms = before.at_ms + every_ms - self._now_ms if before is not None and before.is_again(ask) else 0
        if left_ms <= 0:
            yield ask
        yield Look(cause=self._cause, item=self._item, after_ms=left_ms if left_ms > 0 else every_ms)

    def _last_seen(self) -> ProvisionSeen | None:
        seen = self._state.provisions.get(self._name)
        return seen if seen is not None and seen.uid == self._view.meta.uid else None

    def said(self) -> Said | None:
        """The condition Provisioned."""
        if self._wanted is None:
            return None
        if not self._policy.provision:
            message = "this hub makes no clusters: set FLOTILLA_HUB_PROVISION"
            return Said(PROVISIONED_CONDITION, "False", "NotEnabled", message)
        if isinstance(self._wanted, SimulatorProvision):
            return self._said_of_simulated()
        if self._seen is None:
            return Said(PROVISIONED_CONDITION, "Unknown", "Asking", "the management cluster has not answered yet")
        return self._said_of(self._seen.standing)

    def _said_of_simulated(self) -> Said:
        if self._heard():
            return Said(PROVISIONED_CONDITION, "True", PROVISIONED)
        message = "the simulator makes it, where one runs with FLOTILLA_SIMULATOR_PROVISION"
        return Said(PROVISIONED_CONDITION, "False", PROVISIONING, message)

    def _said_of(self, standing: Standing) -> Said:
        if standing.stage is Stage.READY:
            return Said(PROVISIONED_CONDITION, "True", standing.reason or PROVISIONED, standing.message)
        known = standing.stage is not Stage.UNKNOWN or standing.reason in _FINAL
        return Said(
            PROVISIONED_CONDITION, "False" if known else "Unknown", standing.reason or PROVISIONING, standing.message
        )

    def _heard(self) -> bool:
        pulse = self._state.pulses.get(self._name)
        return pulse is not None and self._now_ms < pulse.expires_ms(self._policy)

    # Ending it

    @property
    def is_forced(self) -> bool:
        return self._view.meta.annotations.get(FORCE_DELETE_ANNOTATION, "").lower() == "true"

    def drained(self) -> Said:
        """The condition Drained of one that is being deleted."""
        if self.is_forced:
            return Said(DRAINED_CONDITION, "True", "Forced", f"{FORCE_DELETE_ANNOTATION} says not to wait")
        closed_ms = self._state.closed_ms.get(self._name)
        if closed_ms is None and self._name in self._state.declared:
            return Said(DRAINED_CONDITION, "False", "Draining", "it is being closed for new work")
        remaining = self._remaining()
        stuck = [holder for holder in remaining if not holder.leaves]
        if not remaining:
            if closed_ms is not None and self._now_ms < closed_ms + self._policy.settle_ms:
                return Said(DRAINED_CONDITION, "False", "Draining", "it was closed for new work a moment ago")
            return Said(DRAINED_CONDITION, "True", "Empty")
        if stuck and closed_ms is not None and self._now_ms >= closed_ms + self._policy.drain_ms:
            message = (
                f"{_names(stuck)} cannot leave: no room elsewhere, no other cluster allowed, or the taint "
                f"{DRAINING.key} is tolerated. Nothing is removed until there is; to lose what runs here, "
                f"annotate the Cluster with {FORCE_DELETE_ANNOTATION}=true"
            )
            return Said(DRAINED_CONDITION, "False", "WaitingForRoom", message)
        return Said(DRAINED_CONDITION, "False", "Draining", f"{_names(remaining)} still here")

    def _remaining(self) -> list[Holder]:
        """Not more than are shown, and one: each look at all placements ends at those."""
        found = {holder.key: holder for holder in islice(holders(self._name, self._state), 2 * _SHOWN + 2)}
        return list(found.values())

    def close(self, known: ClusterDeclared, *, ending: bool) -> Iterator[Instruction]:
        """Tells the fleet that it is closed, and to leave it; with `ending` the simulator that it may go."""
        provision = known.provision.model_copy(update={"ending": True}) if ending and known.provision else None
        closed = known.model_copy(
            update={
                "unschedulable": True,
                "taints": known.taints if DRAINING in known.taints else (*known.taints, DRAINING),
                "provision": provision or known.provision,
            }
        )
        if closed != known:
            yield PublishDeclaration(cause=self._cause, name=self._name, declared=closed)
        yield Look(cause=self._cause, item=self._item, after_ms=_DRAIN_LOOK_MS)

    def leave(self, known: ClusterDeclared | None) -> Iterator[Instruction]:
        """The step behind drained that is due."""
        if isinstance(self._wanted, ClusterApiProvision):
            yield from self._deprovision(self._wanted)
        elif known is not None:
            yield from self.close(known, ending=True)

    def has_gone(self, known: ClusterDeclared | None) -> bool:
        """Whether there is nothing left but the object on the hub."""
        if isinstance(self._wanted, ClusterApiProvision):
            seen = self._seen
            return seen is not None and seen.ends and seen.standing.stage in {Stage.ABSENT, Stage.FOREIGN}
        if known is None or known.provision is None:
            return True
        return known.provision.ending and not self._heard()

    def _deprovision(self, wanted: ClusterApiProvision) -> Iterator[Instruction]:
        """The agents leave first, so that their last word is that they left; but they are not waited for forever."""
        told = self._seen is not None and self._seen.ends
        patient = self._now_ms < self._state.leaving_ms.get(self._name, self._now_ms) + self._policy.leave_ms
        ask = Deprovision(
            cause=self._cause,
            name=self._name,
            uid=self._view.meta.uid,
            generation=self._view.meta.generation,
            wanted=wanted,
            delete=told and not (self._heard() and patient),
        )
        yield from self._ask(ask, self._policy.provision_busy_ms)

    def ending(self) -> Said | None:
        """The condition Provisioned of one that is drained."""
        if self._wanted is None:
            return None
        standing = self._seen.standing if self._seen is not None and self._seen.ends else None
        if standing is not None and standing.stage is Stage.UNKNOWN:
            return Said(PROVISIONED_CONDITION, "Unknown", standing.reason, standing.message)
        return Said(PROVISIONED_CONDITION, "False", "Deleting", standing.message if standing is not None else "")


def _names(found: list[Holder]) -> str:
    shown = ", ".join(str(holder.key) for holder in found[:_SHOWN])
    return f"{shown} and more" if len(found) > _SHOWN else shown
