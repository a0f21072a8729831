"""Validation of metadata: names, labels, annotations, owner references, in Kubernetes' own words.

Source: k8s.io/apimachinery/pkg/util/validation and pkg/api/validation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.simulator.core.errors import FieldError, forbidden_field, invalid_value, required
from services.simulator.core.meta import Json
from services.simulator.core.resources import Resource

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"

SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_QUALIFIED_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)
_is_subdomain = re.compile(_SUBDOMAIN).fullmatch
_is_label = re.compile(_LABEL).fullmatch
_is_qualified = re.compile(_QUALIFIED).fullmatch
_is_value = re.compile(_VALUE).fullmatch

_LABEL_MAX = 63
_SUBDOMAIN_MAX = 253
_ANNOTATIONS_MAX = 256 * 1024
_LABEL_NAMED = {"namespaces", "services"}
_STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_RBAC_GROUP = "rbac.authorization.k8s.io"


def subdomain_problem(name: str) -> str | None:
    if len(name) > _SUBDOMAIN_MAX:
        return f"must be no more than {_SUBDOMAIN_MAX} characters"
    return None if _is_subdomain(name) else SUBDOMAIN_WORDS


def label_problem(name: str) -> str | None:
    if len(name) > _LABEL_MAX:
        return f"must be no more than {_LABEL_MAX} characters"
    return None if _is_label(name) else LABEL_WORDS


def _name_problem(resource: Resource, name: str) -> str | None:
    if resource.group == _RBAC_GROUP:
        return f"may not contain {'/'!r}" if "/" in name else None
    if resource.qualified in _LABEL_NAMED:
        return label_problem(name)
    return subdomain_problem(name)


def _has_loose_finalizers(resource: Resource) -> bool:
    """Custom resources and their definitions may have finalizers without a domain; definitions get one when they go."""
    return resource.custom or resource.group == "apiextensions.k8s.io"


def qualified_name_problem(key: str) -> str | None:
    """What is wrong with the key of a label or annotation."""
    prefix, slash, name = key.rpartition("/")
    if slash:
        if not prefix:
            return "prefix part must be non-empty"
        if problem := subdomain_problem(prefix):
            return f"prefix part {problem}"
    if not name:
        return f"name part must be non-empty; {_QUALIFIED_WORDS}"
    if len(name) > _LABEL_MAX:
        return f"name part must be no more than {_LABEL_MAX} characters"
    return None if _is_qualified(name) else _QUALIFIED_WORDS


def label_value_problem(value: str) -> str | None:
    if len(value) > _LABEL_MAX:
        return f"must be no more than {_LABEL_MAX} characters"
    return None if _is_value(value) else _VALUE_WORDS


def validate_labels(labels: dict[str, str], path: str) -> Iterator[FieldError]:
    for key, value in labels.items():
        if problem := qualified_name_problem(key):
            yield invalid_value(path, key, problem)
        if problem := label_value_problem(value):
            yield invalid_value(path, value, problem)


def validate_metadata(resource: Resource, meta: Json) -> Iterator[FieldError]:
    prefix = meta.get("generateName")
    if prefix and (problem := _name_problem(resource, f"{prefix}x")):
        yield invalid_value("metadata.generateName", prefix, problem)
    if not meta.get("name"):
        yield required("metadata.name", "name or generateName is required")
    elif problem := _name_problem(resource, meta["name"]):
        yield invalid_value("metadata.name", meta["name"], problem)
    yield from validate_labels(meta.get("labels") or {}, "metadata.labels")
    yield from _validate_annotations(meta.get("annotations") or {})
    yield from _validate_references(resource, meta)


def _validate_annotations(annotations: dict[str, str]) -> Iterator[FieldError]:
    for key in annotations:
        if problem := qualified_name_problem(key.lower()):
            yield invalid_value("metadata.annotations", key, problem)
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_MAX:
        yield FieldError(
            "FieldValueTooLong", "metadata.annotations", f"may not be more than {_ANNOTATIONS_MAX} bytes", ""
        )


def _validate_references(resource: Resource, meta: Json) -> Iterator[FieldError]:
    controllers = [entry for entry in meta.get("ownerReferences") or () if entry.get("controller")]
    if len(controllers) > 1:
        yield invalid_value(
            "metadata.ownerReferences",
            [entry["name"] for entry in controllers],
            "Only one reference can have Controller set to true",
        )
    for index, name in enumerate(meta.get("finalizers") or ()):
        path = f"metadata.finalizers[{index}]"
        if problem := qualified_name_problem(name):
            yield invalid_value(path, name, problem)
        elif "/" not in name and name not in _STANDARD_FINALIZERS and not _has_loose_finalizers(resource):
            problem = "name is neither a standard finalizer name nor is it fully qualified"
            yield invalid_value(path, name, problem)


def validate_metadata_update(old: Json, new: Json) -> Iterator[FieldError]:
    if "deletionTimestamp" in old:
        added = [name for name in new.get("finalizers") or () if name not in (old.get("finalizers") or ())]
        if added:
            listed = ", ".join(f'"{name}"' for name in added)
            yield forbidden_field(
                "metadata.finalizers",
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{listed}}}",
            )
