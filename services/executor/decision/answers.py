"""What the API server's answers mean: the cache learns from them before the watch does, and failures wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.executor.decision.backoff import CallFailed, Policy, next_retry
from services.executor.decision.drift import fingerprint
from services.executor.decision.instructions import Annotate, Apply, Bind, Call, CreateNamespace, Delete, Stamp
from services.executor.decision.reading import read_meta, read_object
from services.executor.decision.state import State
from services.executor.decision.stimuli import CallReturned
from services.executor.decision.subject import Settled, Subject
from services.executor.decision.world import Namespace, read_namespace

_INVALID = 422


def on_answer(state: State, policy: Policy, stimulus: CallReturned) -> None:
    call, answer = stimulus.call, stimulus.answer
    # None if the subject was forgotten meanwhile: what was done to the cluster is still learned.
    subject = state.subjects.get(call.subject)
    if isinstance(answer, CallFailed):
        if subject is not None and not _unchangeable(state, subject, call, answer):
            previous = subject.retries.get(call.target)
            subject.retries[call.target] = next_retry(previous, answer, policy, stimulus.at_ms, stimulus.chance)
        return
    if subject is not None:
        subject.retries.pop(call.target, None)
    _learn(state, subject, call, answer)


def _unchangeable(state: State, subject: Subject, call: Call, answer: CallFailed) -> bool:
    """Whether a bound pod was made another than its template says by admission, and so cannot be put right.

    Everybody is refused what of a pod cannot change, so what differs has differed from the beginning: it stays.
    """
    wanted, live = subject.resolved.by_id.get(call.target), state.world.live.get(call.target)
    if not isinstance(call, Apply) or answer.code != _INVALID or wanted is None or live is None or not wanted.bound:
        return False
    if live.node != wanted.node or live.template_hash != wanted.template_hash:
        return False
    subject.settled[call.target] = Settled(live.uid, wanted.shape, live.fingerprint)
    return True


def _learn(state: State, subject: Subject | None, call: Call, answer: dict[str, Any]) -> None:
    live = state.world.live.get(call.target)
    match call:
        case Apply():
            _settle(state, subject, call, answer)
        case Stamp():
            _stamped(state, subject, call, answer)
        case Bind() if live is not None and live.uid == call.uid:
            # Its other nodes are out of the question now. An older state of it may still come.
            state.world.live.amend(replace(live, node=call.node, asked=frozenset((call.node,))))
        case Delete() if live is not None and live.uid == call.uid:
            state.world.live.amend(replace(live, deleting=True))
        case CreateNamespace():
            state.world.namespaces.setdefault(call.target.name, Namespace())
        case Annotate():
            state.world.namespaces[call.target.name] = read_namespace(read_meta(answer))


def _settle(state: State, subject: Subject | None, call: Apply, answer: dict[str, Any]) -> None:
    """The answer is the object as it was stored: that is what it should look like from now on."""
    print_ = fingerprint(call.body, answer)
    live = read_object(call.target.kind, answer)
    if subject is not None and call.target in subject.resolved.by_id:
        subject.settled[call.target] = Settled(read_meta(answer).uid, call.shape, print_)
    if live is not None and state.world.live.put(replace(live, shape=call.shape, fingerprint=print_)):
        state.recall(live)


def _stamped(state: State, subject: Subject | None, call: Stamp, answer: dict[str, Any]) -> None:
    live = read_object(call.target.kind, answer)
    wanted = state.wanted(call.target, call.subject)
    if live is None or wanted is None:
        return
    print_ = fingerprint(dict(wanted.body), answer)
    if subject is not None and wanted.shape == live.template_hash:
        subject.settled[call.target] = Settled(live.uid, wanted.shape, print_)
    state.world.live.put(replace(live, shape=wanted.shape, fingerprint=print_))
