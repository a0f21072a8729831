"""Taints and tolerations. Source: k8s.io/api/core/v1 `Toleration.ToleratesTaint`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from shared.model.base import StrictValue, Value

# Of a cluster: whoever declares it has made sure that nothing runs there any more, as with Kubernetes'
# `node.kubernetes.io/out-of-service`.
OUT_OF_SERVICE_KEY = "flotilla.dev/out-of-service"

TaintEffect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class Taint(Value):
    key: str
    value: str = ""
    effect: TaintEffect
    time_added: str | None = None


# What a cluster has while neither its watcher nor its API server is heard.
SILENT = Taint(key="flotilla.dev/silent", effect="NoExecute")


class Toleration(StrictValue):
    """An empty key with operator Exists tolerates everything; an empty effect matches every effect."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: TaintEffect | Literal[""] = ""
    toleration_seconds: int | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.key and self.operator != "Exists":
            raise ValueError("operator must be Exists when key is empty, which tolerates every taint")
        if self.operator == "Exists" and self.value:
            raise ValueError("value must be empty when operator is Exists")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds needs effect NoExecute")
        return self

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        return self.operator == "Exists" or self.value == taint.value
