"""Label and node selectors by the rules of Kubernetes.

Sources: k8s.io/apimachinery/pkg/labels and pkg/apis/meta/v1 (label selectors), and
k8s.io/component-helpers/scheduling/corev1/nodeaffinity (node selectors, which add Gt, Lt and fields).
An empty label selector selects everything; an absent one is for the caller to decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.model.base import StrictValue
from shared.model.names import LabelKey, LabelValue

LabelOperator = Literal["In", "NotIn", "Exists", "DoesNotExist"]
NodeOperator = Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]


def _check_values(operator: str, values: tuple[str, ...]) -> None:
    if operator in {"In", "NotIn"} and not values:
        raise ValueError(f"values must be given for operator {operator}")
    if operator in {"Exists", "DoesNotExist"} and values:
        raise ValueError(f"values must be empty for operator {operator}")


def holds(operator: str, values: tuple[str, ...], actual: str | None) -> bool:
    """Whether one requirement is fulfilled by a label's value, None where there is no such label."""
    match operator:
        case "In":
            return actual is not None and actual in values
        case "NotIn":
            return actual is None or actual not in values
        case "Exists":
            return actual is not None
        case "DoesNotExist":
            return actual is None
    return _compares(operator, values[0], actual)


def _compares(operator: str, bound: str, actual: str | None) -> bool:
    """Gt and Lt: both sides are whole numbers, or it does not hold."""
    try:
        number, limit = int(actual or ""), int(bound)
    except ValueError:
        return False
    return number > limit if operator == "Gt" else number < limit


class LabelRequirement(StrictValue):
    key: LabelKey
    operator: LabelOperator
    values: tuple[LabelValue, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_values(self.operator, self.values)
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        return holds(self.operator, self.values, labels.get(self.key))

    def text(self) -> str:
        match self.operator:
            case "Exists":
                return self.key
            case "DoesNotExist":
                return f"!{self.key}"
        return f"{self.key} {self.operator.lower()} ({','.join(sorted(self.values))})"


class LabelSelector(StrictValue):
    """`metav1.LabelSelector`: every term must hold."""

    match_labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    match_expressions: tuple[LabelRequirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )

    def text(self) -> str:
        """As Kubernetes' APIs take it in a query, in one order whatever the order in which it was written."""
        terms = [(key, f"{key}={value}") for key, value in self.match_labels.items()]
        terms += [(item.key, item.text()) for item in self.match_expressions]
        return ",".join(term for _, term in sorted(terms))


class NodeRequirement(StrictValue):
    key: str
    operator: NodeOperator
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_values(self.operator, self.values)
        if self.operator in {"Gt", "Lt"}:
            if len(self.values) != 1:
                raise ValueError(f"exactly one value must be given for operator {self.operator}")
            int(self.values[0])
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        return holds(self.operator, self.values, labels.get(self.key))


class NodeSelectorTerm(StrictValue):
    """Every expression must hold; a term without any selects nothing."""

    match_expressions: tuple[NodeRequirement, ...] = ()
    match_fields: tuple[NodeRequirement, ...] = ()

    def matches(self, labels: Mapping[str, str], name: str) -> bool:
        if not self.match_expressions and not self.match_fields:
            return False
        return all(requirement.matches(labels) for requirement in self.match_expressions) and all(
            requirement.matches({"metadata.name": name}) for requirement in self.match_fields
        )


class NodeSelector(StrictValue):
    """`corev1.NodeSelector`: one term must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = Field(min_length=1)

    def matches(self, labels: Mapping[str, str], name: str) -> bool:
        return any(term.matches(labels, name) for term in self.node_selector_terms)


class PreferredTerm(StrictValue):
    """`corev1.PreferredSchedulingTerm`."""

    weight: Annotated[int, Field(ge=1, le=100)]
    preference: NodeSelectorTerm
