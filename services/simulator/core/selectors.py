"""Label and field selectors: the text of a query and the objects of a spec, compiled to predicates.

Source: k8s.io/apimachinery/pkg/labels and pkg/fields. Work is on plain dictionaries, because a list of 20,000
pods cannot afford a model for each of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from services.simulator.core.errors import ApiError, bad_request
from services.simulator.core.meta import Json

Labels = dict[str, str]
LabelPredicate = Callable[[Labels], bool]

_SET_TERM = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<operator>in|notin)\s+\((?P<values>[^()]*)\)$")
_EQUALITY = re.compile(r"^(?P<key>[^\s!=<>,()]+)\s*(?P<operator>==|=|!=|>|<)\s*(?P<value>[^\s!=,()]*)$")
_KEY = re.compile(r"^(?P<negated>!?)\s*(?P<key>[^\s!=<>,()]+)$")


def split_terms(text: str) -> list[str]:
    """Splits at commas outside parentheses."""
    terms, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            terms.append(text[start:position])
            start = position + 1
    terms.append(text[start:])
    return [term.strip() for term in terms]


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def requirement(key: str, operator: str, values: tuple[str, ...]) -> LabelPredicate:
    """One requirement; also of node selectors (Gt, Lt)."""
    allowed = frozenset(values)
    match operator:
        case "In":
            return lambda labels: labels.get(key) in allowed
        case "NotIn":
            return lambda labels: key not in labels or labels[key] not in allowed
        case "Exists":
            return lambda labels: key in labels
        case "DoesNotExist":
            return lambda labels: key not in labels
    bound = _number(values[0]) if len(values) == 1 else None
    sign = 1 if operator == "Gt" else -1

    def compare(labels: Labels) -> bool:
        actual = _number(labels.get(key))
        return actual is not None and bound is not None and (actual - bound) * sign > 0

    return compare


def _parse_term(term: str) -> LabelPredicate:
    if match := _SET_TERM.match(term):
        values = tuple(value.strip() for value in match["values"].split(","))
        return requirement(match["key"], "In" if match["operator"] == "in" else "NotIn", values)
    if match := _EQUALITY.match(term):
        operator = {"=": "In", "==": "In", "!=": "NotIn", ">": "Gt", "<": "Lt"}[match["operator"]]
        return requirement(match["key"], operator, (match["value"],))
    if match := _KEY.match(term):
        return requirement(match["key"], "DoesNotExist" if match["negated"] else "Exists", ())
    raise bad_request(f"unable to parse requirement: found '{term}', expected: identifier, '!', 'in' or '='")


def everything(_labels: Labels) -> bool:
    return True


def _all_of(predicates: list[LabelPredicate]) -> LabelPredicate:
    if not predicates:
        return everything
    if len(predicates) == 1:
        return predicates[0]
    return lambda labels: all(predicate(labels) for predicate in predicates)


@lru_cache(maxsize=1024)
def parse_labels(text: str) -> LabelPredicate:
    """The predicate of `?labelSelector=`."""
    return _all_of([_parse_term(term) for term in split_terms(text) if term])


def label_selector(selector: Json | None) -> LabelPredicate:
    """The predicate of a `metav1.LabelSelector`; an absent one selects nothing, an empty one everything."""
    if selector is None:
        return lambda _labels: False
    predicates = [requirement(key, "In", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    predicates += [
        requirement(term["key"], term["operator"], tuple(term.get("values") or ()))
        for term in selector.get("matchExpressions") or ()
    ]
    return _all_of(predicates)


def format_selector(selector: Json | None) -> str:
    """A label selector as text, as the scale subresource and tables show it."""
    if selector is None:
        return "<none>"
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for term in selector.get("matchExpressions") or ():
        values = ",".join(sorted(term.get("values") or ()))
        match term["operator"]:
            case "In":
                terms.append(f"{term['key']} in ({values})")
            case "NotIn":
                terms.append(f"{term['key']} notin ({values})")
            case "Exists":
                terms.append(term["key"])
            case _:
                terms.append(f"!{term['key']}")
    return ",".join(terms) or "<none>"


FieldTerm = tuple[str, bool, str]
"""Path, whether equality is wanted, and the value."""


@lru_cache(maxsize=1024)
def parse_fields(text: str) -> tuple[FieldTerm, ...]:
    terms: list[FieldTerm] = []
    for part in filter(None, (term.strip() for term in text.split(","))):
        path, operator, value = _split_field(part)
        terms.append((path, operator != "!=", value))
    return tuple(terms)


def _split_field(part: str) -> tuple[str, str, str]:
    for operator in ("!=", "==", "="):
        path, found, value = part.partition(operator)
        if found:
            return path.strip(), operator, value.strip()
    raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")


_METADATA = frozenset({"metadata.name", "metadata.namespace"})
_SELECTABLE = {
    "pods": {
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    },
    "nodes": {"spec.unschedulable"},
    "namespaces": {"status.phase"},
    "secrets": {"type"},
    "events": {
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    },
    "replicasets.apps": {"status.replicas"},
    "jobs.batch": {"status.successful"},
}
_DEFAULTS = {"spec.unschedulable": "false", "spec.hostNetwork": "false"}


def field_value(obj: Json, path: str) -> str:
    """The value of a selectable field as text; empty if it is absent."""
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return _DEFAULTS.get(path, "")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def check_fields(terms: tuple[FieldTerm, ...], storage: str, extra: tuple[str, ...]) -> ApiError | None:
    """Kubernetes selects by a few fields of each resource only and refuses the others."""
    known = _METADATA | _SELECTABLE.get(storage, set()) | set(extra)
    for path, _, _ in terms:
        if path in known:
            continue
        if storage in _SELECTABLE:
            return bad_request(f"field label not supported: {path}")
        listed = '"metadata.name", "metadata.namespace"'
        return bad_request(f'"{path}" is not a known field selector: only {listed}')
    return None


def matches_fields(terms: tuple[FieldTerm, ...], obj: Json) -> bool:
    return all((field_value(obj, path) == value) is wanted for path, wanted, value in terms)
