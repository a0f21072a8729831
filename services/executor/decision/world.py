"""What is known of one cluster: served kinds, namespaces, nodes, and the objects that the executor applied.

Nothing here says what should be. A kind is *known* when its objects were listed once, or the cluster does not serve it:
until then the absence of an object means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.executor.decision.identity import Feed, GroupKind, ServedKind
from services.executor.decision.live import LiveObject, LiveObjects
from services.executor.decision.reading import ObjectMeta
from services.executor.decision.room import Node, lacking
from shared.model.identities import ENDED_ANNOTATION_PREFIX, KINDS_ANNOTATION_PREFIX

_KIND_SEPARATOR = ", Kind="
_MAX_ANNOTATION_NAME = 63


@dataclass(slots=True)
class KindState:
    """`served` is None until the cluster was asked."""

    kind: ServedKind
    served: bool | None = None
    namespaced: bool = True
    message: str = ""


@dataclass(frozen=True, slots=True)
class Namespace:
    terminating: bool = False
    kinds: frozenset[ServedKind] = frozenset()
    # What was noted of objects that have ended, by annotation; see `endings`.
    ended: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class World:
    live: LiveObjects = field(default_factory=LiveObjects)
    kinds: dict[GroupKind, KindState] = field(default_factory=dict)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    synced: set[Feed] = field(default_factory=set)
    broken: dict[Feed, str] = field(default_factory=dict)

    def namespaced(self, kind: GroupKind) -> bool:
        """Whether the kind lives in namespaces; taken as true while the cluster does not serve it."""
        state = self.kinds.get(kind)
        return state is None or state.namespaced

    def kind_problem(self, kind: GroupKind) -> str:
        """Why nothing is known of the objects of a kind yet; empty if all is known."""
        state = self.kinds.get(kind)
        if state is not None and state.served is False:
            return ""
        return self.feed_problem(Feed(kind))

    def feed_problem(self, feed: Feed) -> str:
        if feed in self.synced:
            return ""
        reason = self.broken.get(feed, "")
        return f"{feed.kind} objects are not listed yet" + (f": {reason}" if reason else "")

    def not_served(self, kind: GroupKind) -> str | None:
        """What the cluster said of a kind that it does not serve; None if it serves it."""
        state = self.kinds.get(kind)
        return state.message if state is not None and state.served is False else None

    def node_problem(self, node: str) -> str | None:
        """Why no pod may be put on a node, as a reason; None if it may."""
        known = self.nodes.get(node)
        if known is None:
            return "NodeGone"
        return None if known.schedulable else "NodeUnschedulable"

    def lacking(self, pod: LiveObject, node: str) -> list[str]:
        """What a node that is there has too little of for a pod, beside the others that we applied."""
        others = (other.needs for other in self.live.on_node(node) if other.holds and other.id != pod.id)
        return lacking(pod.needs, others, self.nodes[node])


def read_namespace(meta: ObjectMeta) -> Namespace:
    kinds = {
        kind
        for key, value in (meta.annotations or {}).items()
        if key.startswith(KINDS_ANNOTATION_PREFIX) and (kind := _parse_kind(value))
    }
    ended = {k: v for k, v in (meta.annotations or {}).items() if k.startswith(ENDED_ANNOTATION_PREFIX)}
    return Namespace(meta.deletion_timestamp is not None, frozenset(kinds), ended)


def kind_annotation(kind: ServedKind) -> tuple[str, str]:
    """Key and value under which a namespace remembers a kind; the value says all, the key is only unique."""
    group_kind = kind.group_kind
    name = str(group_kind)
    if len(name) > _MAX_ANNOTATION_NAME:
        # Groups are DNS names, in which the long part leads: its end and its length keep names apart.
        name = f"{name[:20]}.{len(name)}.{name[-38:].lstrip('.-')}"
    return KINDS_ANNOTATION_PREFIX + name, f"{kind.api_version}{_KIND_SEPARATOR}{kind.kind}"


def _parse_kind(text: str) -> ServedKind | None:
    api_version, separator, kind = text.partition(_KIND_SEPARATOR)
    return ServedKind(api_version, kind) if separator and api_version and kind else None
