"""`/admit`: what is wrong with a Cluster or Workload, told to the user before it is stored, field by field.

The same models check here and when a request is made, so what passes is not refused later for its form. What is being
deleted always passes, and so does an update that leaves the specification as it was: a finalizer must come off, and a
label may change, of what was stored while nobody checked. Source: `admission.k8s.io/v1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from services.hub.decision.resources import GROUP, ORIGIN_LABEL, ORIGIN_TOPIC, ClusterSpec
from services.hub.decision.views import check_cluster, check_workload, meta_of
from shared.events.v1.workloads import FieldError, Workload

Json = dict[str, Any]

_UNPROCESSABLE: Final = 422
_BAD_REQUEST: Final = 400
_MIRROR_WARNING: Final = (
    f"this Workload was requested through the topic: its spec is taken from there; remove the label {ORIGIN_LABEL} "
    "to take it over"
)


class _Metadata(BaseModel):
    """As far as it is read here. An API server sends nothing else; whoever else calls is answered all the same."""

    model_config = ConfigDict(alias_generator=to_camel, strict=True)

    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Ref] | None = None
    managed_fields: list[_ManagedFields] | None = None
    finalizers: list[str] | None = None


class _Ref(BaseModel):
    kind: str
    name: str
    uid: str


class _ManagedFields(BaseModel):
    manager: str = ""
    time: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The review to be sent back, and what the audit has to know of it."""

    review: Json
    allowed: bool
    kind: str = ""
    name: str = ""
    user: str = ""
    operation: str = ""
    uid: str = ""
    message: str = ""
    dry_run: bool = False


def review(document: Any) -> Verdict:
    """Answers an AdmissionReview. What is none is refused with a message, never with an exception."""
    request = document.get("request") if isinstance(document, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        return _refuse({"uid": ""}, "", "", "want an AdmissionReview of admission.k8s.io/v1")
    kind = _text(request.get("kind"), "kind")
    target = request.get("object")
    if not isinstance(target, dict) or request.get("subResource"):
        return _allow(request, kind, _name(request))
    try:
        _Metadata.model_validate(target.get("metadata"))
    except ValidationError:
        return _refuse(request, kind, _name(request), "metadata is missing or malformed")
    meta = meta_of(target)
    if meta.deleting or _is_as_before(request, target):
        return _allow(request, kind, meta.name)
    errors: Sequence[FieldError] = ()
    warnings: Sequence[str] = ()
    if kind == "Cluster":
        cluster = check_cluster(meta.name, target.get("spec") or {})
        errors = () if isinstance(cluster, ClusterSpec) else cluster
    elif kind == "Workload":
        workload = check_workload(meta, target.get("spec") or {})
        errors = () if isinstance(workload, Workload) else workload
        if (
            request.get("operation") == "UPDATE"
            and meta.labels.get(ORIGIN_LABEL) == ORIGIN_TOPIC
            and not _is_hub(request)
        ):
            warnings = (_MIRROR_WARNING,)
    if not errors:
        return _allow(request, kind, meta.name, warnings)
    words = "; ".join(f"{error.field}: {error.message}" for error in errors)
    message = f'{kind}.{GROUP} "{meta.name}" is invalid: {words}'
    return _refuse(request, kind, meta.name, message, errors)


def _allow(request: Json, kind: str, name: str, warnings: Sequence[str] = ()) -> Verdict:
    response: Json = {"uid": request["uid"], "allowed": True}
    if warnings:
        response["warnings"] = list(warnings)
    return _verdict(request, response, kind, name, "")


def _refuse(request: Json, kind: str, name: str, message: str, errors: Sequence[FieldError] = ()) -> Verdict:
    """With errors of fields the object is invalid; without, the review itself is malformed."""
    status: Json = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": _UNPROCESSABLE if errors else _BAD_REQUEST,
        "reason": "Invalid" if errors else "BadRequest",
        "message": message,
    }
    if errors:
        status["details"] = {"name": name, "group": GROUP, "kind": kind, "causes": [_cause(e) for e in errors]}
    return _verdict(request, {"uid": request["uid"], "allowed": False, "status": status}, kind, name, message)


def _cause(error: FieldError) -> Json:
    reason = "FieldValueRequired" if error.reason == "Required" else "FieldValueInvalid"
    return {"reason": reason, "message": error.message, "field": error.field}


def _verdict(request: Json, response: Json, kind: str, name: str, message: str) -> Verdict:
    namespace = request.get("namespace")
    return Verdict(
        review={"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response},
        allowed=bool(response["allowed"]),
        kind=kind,
        name=f"{namespace}/{name}" if kind == "Workload" and namespace else name,
        user=_text(request.get("userInfo"), "username"),
        operation=str(request.get("operation", "")),
        uid=str(request["uid"]),
        message=message,
        dry_run=request.get("dryRun") is True,
    )


def _is_as_before(request: Json, target: Json) -> bool:
    before = request.get("oldObject")
    if request.get("operation") != "UPDATE" or not isinstance(before, dict):
        return False
    return bool(before.get("spec") == target.get("spec"))


def _is_hub(request: Json) -> bool:
    """Whether the hub itself writes: the field manager stands in the request's options."""
    return _text(request.get("options"), "fieldManager").startswith("flotilla")


def _name(request: Json) -> str:
    name = request.get("name")
    return name if isinstance(name, str) else ""


def _text(document: Any, name: str) -> str:
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""
