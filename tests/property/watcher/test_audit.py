"""An audit mends whatever was lost, and only that, while everything goes on beside it.

As in `test_convergence` Hypothesis chooses what happens to a small API server and its watcher, and here also what must
never happen: a watch that keeps an event to itself, and a log in which records were lost or written by somebody else.
After one audit of the log and the cluster the log ends with exactly the objects that exist, and the digest is theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from services.watcher.decision.instructions import Publish
from services.watcher.decision.stimuli import AuditStarted, ListCompared, LogCompared
from shared.adapters.kubernetes.decoding import decode_object
from shared.events.states import split_key, state_of
from shared.events.v1.objects import SyncMarked
from shared.kernel.machine import Stimulus
from shared.model.digests import digest_of
from shared.model.identities import is_object_key, sync_marker_key
from shared.ports.cluster_api import Change, ChangeType
from tests.property.watcher.test_convergence import NAMES, PODS, Run

WHOLE = (1_000_000, 1000)


class AuditedRun(Run):
    """`lose` and `tamper` break what nothing but an audit can mend."""

    def lose(self, name: str, *, gone: bool) -> None:
        """Something happens to an object, and the watch never tells."""
        if gone:
            self.server.delete(name)
        else:
            self.server.put(name)
        if self.server.events and self.server.events[-1][0] == self.server.version:
            self.server.events.pop()

    def tamper(self, name: str, value: bytes | None) -> None:
        """Somebody else writes into the log, or what was written is lost."""
        foreign = Publish(cause="x", ce_type="", key=f"west/core/v1/pods/n/{name}".encode(), value=value, seq=-1)
        self.log.append((0, foreign))

    def states(self) -> dict[str, str]:
        """By name, as the log has them."""
        return {name: state_of(value) for name, value in self._objects()}

    def _objects(self) -> Iterator[tuple[str, bytes]]:
        for key, value in self.final().items():
            if value is not None and is_object_key(key):
                parts = split_key(key.encode())
                assert parts is not None
                yield parts[2], value

    def synced(self) -> bool:
        self._handle(AuditStarted(id="try", at_ms=0, resource=PODS))
        return self.mirror.audits.can_judge(PODS, "0") is not None

    def audit(self, between: list[tuple[str, Any]]) -> bool:
        """Of the log, then of the cluster; `between` happens while the list is on its way. False if it was no use."""
        sent = self.mirror.audits.published(PODS)
        self._handle(LogCompared(id="log", at_ms=0, resource=PODS, sent=sent, read=self.states()))
        self._handle(AuditStarted(id="start", at_ms=0, resource=PODS))
        version, listed = str(self.server.version), list(self._listed())
        suspects = self.mirror.audits.suspects(PODS, listed)
        for action, argument in between:
            getattr(self.server, action)(argument)
            self.step(*WHOLE)
        for _ in range(4):
            self.step(*WHOLE)
        if not self.mirror.audits.can_judge(PODS, version):
            return False
        names = {f"{change.namespace}/{change.name}" for change in listed}
        self._handle(ListCompared(id="list", at_ms=0, resource=PODS, version=version, listed=names, suspects=suspects))
        return True

    def _listed(self) -> Iterator[Change]:
        for obj in self.server.objects.values():
            yield decode_object(ChangeType.LISTED, json.dumps(obj).encode(), without_managed_fields=True)

    def _handle(self, stimulus: Stimulus) -> None:
        self._send(self.mirror.handle(stimulus))


ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("step"), st.none()),
    st.tuples(st.just("step"), st.none()),
    st.tuples(st.just("lose"), st.tuples(st.sampled_from(NAMES), st.booleans())),
    st.tuples(st.just("tamper"), st.tuples(st.sampled_from((*NAMES, "nobody")), st.sampled_from((None, b"{}", b"x")))),
)
BETWEEN = st.lists(st.tuples(st.sampled_from(("put", "delete")), st.sampled_from(NAMES)), max_size=6)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(actions=st.lists(ACTIONS, max_size=30), between=BETWEEN, streams=st.booleans())
def test_an_audit_mends_what_was_lost(
    actions: list[tuple[str, Any]], between: list[tuple[str, Any]], *, streams: bool
) -> None:
    run = AuditedRun(streams=streams)
    for _ in range(6):
        run.step(*WHOLE)
    for action, argument in actions:
        match action:
            case "put" | "delete":
                getattr(run.server, action)(argument)
            case "step":
                run.step(*WHOLE)
            case "lose":
                run.lose(argument[0], gone=argument[1])
            case "tamper":
                run.tamper(*argument)
    assume(run.synced())
    assert run.audit(between)

    truth = {
        f"n/{name}": f"{obj['metadata']['uid']}/{obj['metadata']['resourceVersion']}"
        for name, obj in run.server.objects.items()
    }
    assert run.states() == truth
    marker = run.final()[sync_marker_key("west", PODS)]
    said = SyncMarked.model_validate_json(marker or b"")
    assert (said.objects, said.digest) == (len(truth), digest_of(truth).text)


@settings(max_examples=100, deadline=None)
@given(
    actions=st.lists(ACTIONS.filter(lambda item: item[0] in {"put", "delete", "step"}), max_size=30), between=BETWEEN
)
def test_an_audit_publishes_nothing_where_nothing_was_lost(
    actions: list[tuple[str, Any]], between: list[tuple[str, Any]]
) -> None:
    """Lag is no difference, however far the watch is behind when the list is taken."""
    run = AuditedRun(streams=True)
    for _ in range(3):
        run.step(*WHOLE)
    for action, argument in actions:
        if action == "step":
            run.step(*WHOLE)
        else:
            getattr(run.server, action)(argument)
    assert run.audit(between)
    assert not run.mirror.audits.unlike_cluster.total()
    assert not run.mirror.audits.unlike_log.total()
