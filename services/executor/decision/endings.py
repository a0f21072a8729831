"""What has run to its end is not run again, although it may be gone: removed by its time to live, or by a person.

A Job that finished and was removed looks like one that somebody deleted. So the end is noted on the command's
namespace, as an annotation, and outlives the process: for a Job with a time to live as soon as it is seen to have
finished, for the rest when it is gone. The note holds for equal content, whatever the rest of the command, and goes
with the subject.
"""

from __future__ import annotations

import hashlib

from services.executor.decision.desired import Resolved, Wanted
from services.executor.decision.identity import NAMESPACE, ObjectId
from services.executor.decision.instructions import Annotate
from services.executor.decision.live import LiveObject
from services.executor.decision.plan import Plan
from shared.model.identities import ENDED_ANNOTATION_PREFIX

# The annotations of an object have 256 KiB together; beyond this many notes in a namespace ends are remembered only
# while the process lives.
_MAX_NOTES = 1_000


def has_ended(plan: Plan, wanted: Wanted) -> bool:
    """Whether an object that is not there has run to its end with the content that is wanted."""
    if not wanted.keeps_ended:
        return False
    key, note = _note(plan, wanted)
    return plan.subject.ended.get(wanted.id) == wanted.content or _noted(plan).get(key) == note


def note_endings(plan: Plan, resolved: Resolved | None) -> None:
    """Brings the subject's notes up to date; with None, takes them all back."""
    noted = _noted(plan)
    mine = {key for key, note in noted.items() if note.endswith(f" {plan.subject.name}")}
    wanted = {} if resolved is None else _notes(plan, resolved)
    changes: dict[str, str | None] = dict.fromkeys(mine - wanted.keys())
    if len(noted) < _MAX_NOTES:
        changes |= {key: note for key, note in wanted.items() if noted.get(key) != note}
    if changes:
        target = ObjectId(NAMESPACE, "", plan.subject.command.namespace)
        plan.calls.append(Annotate(cause=plan.cause, subject=plan.subject.name, target=target, annotations=changes))


def _notes(plan: Plan, resolved: Resolved) -> dict[str, str]:
    notes: dict[str, str] = {}
    for wanted in resolved.by_id.values():
        if not wanted.keeps_ended:
            continue
        live = plan.world.live.get(wanted.id)
        if has_ended(plan, wanted) if live is None else _will_vanish(wanted, live):
            notes.update([_note(plan, wanted)])
    return notes


def _will_vanish(wanted: Wanted, live: LiveObject) -> bool:
    spec = wanted.body.get("spec")
    return live.finished and isinstance(spec, dict) and spec.get("ttlSecondsAfterFinished") is not None


def _noted(plan: Plan) -> dict[str, str]:
    namespace = plan.world.namespaces.get(plan.subject.command.namespace)
    return dict(namespace.ended) if namespace is not None and not namespace.terminating else {}


def _note(plan: Plan, wanted: Wanted) -> tuple[str, str]:
    identity = hashlib.sha256(str(wanted.id).encode()).hexdigest()[:32]
    return ENDED_ANNOTATION_PREFIX + identity, f"{wanted.content} {plan.subject.name}"
