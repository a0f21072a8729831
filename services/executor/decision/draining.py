"""Which pods of a node have to go before it may, and which must not be touched.

Left alone are pods of DaemonSets and mirror pods, which go with their node, and pods that have ended. A pod that must
not be evicted (by its annotation, or since nobody would make it anew) keeps its node: then no other pod of it is
disturbed either. Source of the annotations and rules: cluster-autoscaler's FAQ, "What types of pods can prevent CA from
removing a node?", and kubectl's `drain`. Local storage is for who gives the order to look at: it goes with its pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.model.identities import APPLIED_BY, APPLIED_BY_LABEL
from shared.model.pod_objects import MIRROR_ANNOTATION, SAFE_TO_EVICT_ANNOTATION


@dataclass(frozen=True, slots=True)
class Pod:
    """`stays`: it goes with its node. `forbidden` says why it may not be evicted; empty if it may."""

    namespace: str
    name: str
    uid: str
    stays: bool = False
    leaving: bool = False
    forbidden: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Pods are to be evicted now, or are on their way, or wait for their budget: `message` says which, of some."""

    evict: tuple[Pod, ...]
    message: str
    waits: bool


@dataclass(frozen=True, slots=True)
class Blocked:
    """A pod keeps the node."""

    message: str
    evict: tuple[Pod, ...] = ()


def pod_of(document: Mapping[str, Any]) -> Pod:
    """From the pod as the API server writes it."""
    metadata = document["metadata"]
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    owner = next((ref for ref in metadata.get("ownerReferences") or () if ref.get("controller")), None)
    safe = annotations.get(SAFE_TO_EVICT_ANNOTATION)
    forbidden = ""
    if safe == "false":
        forbidden = f"its annotation {SAFE_TO_EVICT_ANNOTATION} forbids it"
    elif owner is None and labels.get(APPLIED_BY_LABEL) != APPLIED_BY and safe != "true":
        forbidden = "nobody would make it anew: it has no controller"
    ended = document.get("status", {}).get("phase") in {"Succeeded", "Failed"}
    daemon = owner is not None and owner.get("kind") == "DaemonSet"
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        stays=ended or daemon or MIRROR_ANNOTATION in annotations,
        leaving="deletionTimestamp" in metadata,
        forbidden=forbidden,
    )


def drain(pods: Sequence[Pod], now_ms: int, held_back: Mapping[str, tuple[int, str]]) -> Waiting | Blocked | None:
    """What to do for an empty node; None if it is one. `held_back` as of `Terms`."""
    left = [pod for pod in pods if not pod.stays]
    if not left:
        return None
    forbidden = [pod for pod in left if pod.forbidden and not pod.leaving]
    if forbidden:
        return Blocked(f"pod {forbidden[0]} must not be evicted: {forbidden[0].forbidden}{_more(forbidden)}")
    evict = tuple(pod for pod in left if not pod.leaving and held_back.get(pod.uid, (0, ""))[0] <= now_ms)
    refused = [pod for pod in left if not pod.leaving and pod.uid in held_back]
    if refused:
        return Waiting(evict, f"pod {refused[0]}: {held_back[refused[0].uid][1]}{_more(refused)}", waits=True)
    return Waiting(evict, f"pod {left[0]} is not gone yet{_more(left)}", waits=False)


def _more(pods: Sequence[Pod]) -> str:
    return f" (and {len(pods) - 1} more)" if len(pods) > 1 else ""
