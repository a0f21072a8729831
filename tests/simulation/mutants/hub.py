"""Defects of the hub: what it forgets to ask, what it lets go too early, and time that it takes for granted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from services.hub import shell
from services.hub.decision import machine, workloads
from services.hub.decision.instructions import PublishAudit
from services.hub.decision.resources import FINALIZER
from services.hub.decision.state import State
from services.hub.decision.views import WorkloadView
from services.hub.effects import Effects, Outgoing
from shared.kernel.machine import Instruction
from shared.ports.event_log import LogError
from tests.simulation.generator import ORDERS
from tests.simulation.mutants.mutant import mutant


@mutant("let go early", faults=(ORDERS, "kill:hub"))
def the_hub_sets_no_finalizer() -> Iterator[None]:
    """What a user deletes is gone at once, and nothing is left from which the fleet could be told."""
    original = workloads._Decision._request

    def request(self: workloads._Decision, view: WorkloadView) -> Iterator[Instruction]:
        yield from original(self, replace(view, meta=replace(view.meta, finalizers=(FINALIZER,))))

    with patch.object(workloads._Decision, "_request", request):
        yield


@mutant("let go early", faults=(ORDERS, "slow_log:hub"))
def a_deletion_ends_with_its_request() -> Iterator[None]:
    """The finalizer goes when the log has the request: an object of the same name comes while the former one runs."""

    def is_gone(self: workloads._Decision, view: WorkloadView) -> bool:
        del view
        sent = self._state.sent.get(self._key)
        return sent is not None and sent.request_id.endswith(".delete")

    with patch.object(workloads._Decision, "_is_gone", is_gone):
        yield


@mutant("unaudited", faults=(ORDERS, "kill_at_effect:hub"))
def what_is_asked_is_audited_behind_it() -> Iterator[None]:
    """The record is written when the request was: a hub that is killed in between finds nothing left to be done."""
    original = workloads.decide_workload

    def decide(*args: Any) -> Iterator[Instruction]:
        yield from sorted(original(*args), key=lambda instruction: isinstance(instruction, PublishAudit))

    with patch.object(machine, "decide_workload", decide):
        yield


@mutant("hub", faults=(ORDERS, "lossy_appends:hub"))
def a_request_that_failed_is_taken_as_sent() -> Iterator[None]:
    """`except LogError: log.warning(...)`: the object says that it was asked for, and it never is."""
    original = Effects._send

    async def send(self: Effects, message: Outgoing, key: str, body: bytes | None, event_id: str) -> None:
        try:
            await original(self, message, key, body, event_id)
        except LogError:
            return

    with patch.object(Effects, "_send", send):
        yield


@mutant("hub", faults=(ORDERS, "jump_clock:hub"))
def the_hub_goes_by_the_wall_clock() -> Iterator[None]:
    """A clock that is set back by an hour: for so long nothing is due, and no status is written."""
    with patch.object(shell, "SteadyClock", lambda clock: clock):
        yield


@mutant("let go early", faults=(ORDERS, "slow_log:hub+kill:hub"))
def the_hub_acts_before_it_has_read() -> Iterator[None]:
    """What was not read yet is not there: objects that show it go, and with them the deletions that users asked for."""
    with patch.object(State, "ready_for", return_value=True):
        yield
