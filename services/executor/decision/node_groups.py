"""One look at a node group: what to do now so that it becomes what its order says, and how it stands.

Level-triggered like the rest: nothing is remembered but what is written on the nodes, so a process that died goes on
where the cluster is. A node that is to go is marked and cordoned, emptied by evictions, marked as handed over, and
then deleted by the provider; its Node object is deleted here where the provider leaves it behind.

Invariants:
- The provider is never asked for fewer nodes than those that are to stay, and those that are not empty yet: what it
  would take for that could be any of them.
- A node that somebody had cordoned before is left cordoned when it stays.
- A Node object is deleted only if its node was handed over and the provider has it no more.
- An order that could not be carried out for a node in time is not tried again for that node: only another order is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.executor.decision.draining import Blocked, Pod, Waiting, drain
from services.executor.decision.fence import Fence
from shared.events.v1.commands import NodeGroupOrder
from shared.events.v1.results import ObjectResult
from shared.model.node_groups import NOT_FOUND, GroupState, NodeRef

# On a node that is to go: since when, in Unix milliseconds, and whether it was cordoned before.
REMOVAL_ANNOTATION: Final = "flotilla.dev/removal"
HANDED_OVER_ANNOTATION: Final = "flotilla.dev/removal-handed-over"
# Which order could not be carried out for the node.
GIVEN_UP_ANNOTATION: Final = "flotilla.dev/removal-given-up"
DRAIN_DEADLINE: Final = "DrainDeadlineExceeded"
_BEFORE: Final = ",cordoned"


@dataclass(frozen=True, slots=True)
class Node:
    """As its Node object says. `uid` makes sure that a later one of its name is not meant."""

    name: str
    uid: str
    provider_id: str = ""
    ready: bool = False
    unschedulable: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> NodeRef:
        return NodeRef(self.name, self.provider_id)

    @property
    def marked(self) -> bool:
        return REMOVAL_ANNOTATION in self.annotations

    @property
    def handed_over(self) -> bool:
        return HANDED_OVER_ANNOTATION in self.annotations

    @property
    def since_ms(self) -> int | None:
        """Since when it is to go; None if the mark says no time."""
        text = self.annotations.get(REMOVAL_ANNOTATION, "").removesuffix(_BEFORE)
        return int(text) if text.isdigit() else None

    @property
    def was_cordoned(self) -> bool:
        """Before it was marked."""
        return self.annotations.get(REMOVAL_ANNOTATION, "").endswith(_BEFORE)


def node_of(document: Mapping[str, Any]) -> Node:
    """From the node as the API server writes it."""
    metadata, spec = document["metadata"], document.get("spec", {})
    conditions = document.get("status", {}).get("conditions") or ()
    return Node(
        name=metadata["name"],
        uid=metadata["uid"],
        provider_id=spec.get("providerID", ""),
        ready=any(item["type"] == "Ready" and item["status"] == "True" for item in conditions),
        unschedulable=spec.get("unschedulable", False),
        annotations=metadata.get("annotations") or {},
    )


def to_be_emptied(order: NodeGroupOrder, nodes: Mapping[str, Node]) -> list[str]:
    """The nodes whose pods have to be known for a look."""
    found = (nodes.get(name) for name in dict.fromkeys(order.remove))
    return [node.name for node in found if node is not None and node.marked and not node.handed_over]


@dataclass(frozen=True, slots=True)
class Look:
    """`nodes` are those with the group's label; `pods` are those on nodes that are to be emptied, by node."""

    nodes: Mapping[str, Node]
    pods: Mapping[str, tuple[Pod, ...]]
    state: GroupState


@dataclass(frozen=True, slots=True)
class PatchNode:
    """Sets annotations (None removes one), and whether new pods may come."""

    node: Node
    annotations: Mapping[str, str | None]
    unschedulable: bool | None = None


@dataclass(frozen=True, slots=True)
class Evict:
    """By the Eviction API, so that disruption budgets hold."""

    node: str
    pod: Pod


@dataclass(frozen=True, slots=True)
class RemoveNodes:
    """These and no others are to leave, of the provider's nodes."""

    nodes: tuple[NodeRef, ...]


@dataclass(frozen=True, slots=True)
class Resize:
    size: int


@dataclass(frozen=True, slots=True)
class DeleteNode:
    """The Node object: its machine is gone."""

    node: Node


Step = PatchNode | Evict | RemoveNodes | Resize | DeleteNode


@dataclass(slots=True)
class GroupPlan:
    """`steps` in their order: those behind one that fails are not taken."""

    steps: list[Step] = field(default_factory=list)
    removing: list[str] = field(default_factory=list)
    failures: list[ObjectResult] = field(default_factory=list)
    waits: list[Waiting] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Terms:
    """`held_back` says until when a pod, by uid, is not to be evicted again, and what the last refusal was."""

    fence: Fence
    now_ms: int
    drain_ms: int
    held_back: Mapping[str, tuple[int, str]] = field(default_factory=dict)


def plan_group(order: NodeGroupOrder, look: Look, terms: Terms) -> GroupPlan:
    return _Planner(order, look, terms).plan()


def plan_release(look: Look) -> GroupPlan:
    """What an order had begun and nobody wants any more: nodes that were not handed over stay."""
    plan = GroupPlan()
    plan.steps += [_release(node) for node in look.nodes.values() if node.marked and not node.handed_over]
    return plan


class _Planner:
    def __init__(self, order: NodeGroupOrder, look: Look, terms: Terms) -> None:
        self._order = order
        self._look = look
        self._terms = terms
        self._plan = GroupPlan()
        self._there = look.state.nodes
        # Nodes that are to go and are not the provider's business yet: it must not be asked for fewer than those.
        self._held = 0
        self._handed: list[NodeRef] = []

    def plan(self) -> GroupPlan:
        for name in dict.fromkeys(self._order.remove):
            node = self._look.nodes.get(name)
            if node is not None:
                self._removal(node)
            elif name in self._there:
                # There is nothing left to empty, and the machine is still to go.
                self._handed.append(NodeRef(name))
                self._plan.removing.append(name)
        self._others()
        self._provider()
        return self._plan

    def _removal(self, node: Node) -> None:
        name = node.name
        if node.handed_over and name not in self._there:
            self._plan.steps.append(DeleteNode(node))
            self._plan.removing.append(name)
        elif name not in self._there:
            self._fail(node, NOT_FOUND, "the provider has no such node")
        elif node.handed_over or self._there[name]:
            self._handed.append(node.ref)
            self._plan.removing.append(name)
        elif node.annotations.get(GIVEN_UP_ANNOTATION) == str(self._terms.fence):
            self._held += 1
            self._fail(node, DRAIN_DEADLINE, "it could not be emptied in time")
        elif not node.marked or node.since_ms is None:
            self._held += 1
            self._plan.removing.append(name)
            since = f"{self._terms.now_ms}{_BEFORE if node.unschedulable else ''}"
            marks: dict[str, str | None] = {REMOVAL_ANNOTATION: since, GIVEN_UP_ANNOTATION: None}
            self._plan.steps.append(PatchNode(node, marks, unschedulable=True))
        else:
            self._empty(node, node.since_ms)

    def _empty(self, node: Node, since_ms: int) -> None:
        """Of a node that is marked, and so was cordoned: as often as somebody else uncordons it."""
        plan, terms = self._plan, self._terms
        if not node.unschedulable:
            plan.steps.append(PatchNode(node, {}, unschedulable=True))
        drained = drain(self._look.pods.get(node.name, ()), terms.now_ms, terms.held_back)
        if drained is None:
            plan.removing.append(node.name)
            plan.steps.append(PatchNode(node, {HANDED_OVER_ANNOTATION: "true"}))
            self._handed.append(node.ref)
            return
        self._held += 1
        if terms.now_ms - since_ms >= terms.drain_ms:
            plan.steps.append(_release(node, given_up=str(terms.fence)))
            self._fail(node, DRAIN_DEADLINE, f"it could not be emptied in time: {drained.message}")
            return
        plan.removing.append(node.name)
        plan.steps += [Evict(node.name, pod) for pod in drained.evict]
        if isinstance(drained, Blocked):
            self._fail(node, "Blocked", drained.message)
        elif drained.waits:
            plan.waits.append(drained)

    def _others(self) -> None:
        """Nodes that no order wants to go any more: they stay, unless the provider has begun to delete them."""
        for node in self._look.nodes.values():
            if node.name in self._order.remove or not (node.marked or node.handed_over):
                continue
            if node.handed_over and node.name not in self._there:
                self._plan.steps.append(DeleteNode(node))
            elif node.handed_over and self._there.get(node.name):
                self._plan.removing.append(node.name)
            else:
                self._plan.steps.append(_release(node))

    def _provider(self) -> None:
        state, plan, order = self._look.state, self._plan, self._order
        handed = {ref.name for ref in self._handed}
        leaving = {name for name, is_leaving in state.nodes.items() if is_leaving}
        revoked = [node for node in self._ours() if node.name in leaving - handed]
        if handed - leaving or revoked:
            plan.steps.append(RemoveNodes(tuple(self._handed)))
        staying = sum(name not in leaving and name not in order.remove for name in state.nodes)
        size = max(order.size, staying + state.unjoined) + self._held
        if size != state.size:
            plan.steps.append(Resize(size))

    def _ours(self) -> Iterator[Node]:
        return (node for node in self._look.nodes.values() if node.handed_over)

    def _fail(self, node: Node, reason: str, message: str) -> None:
        self._plan.failures.append(
            ObjectResult(
                api_version="v1", kind="Node", namespace="", name=node.name, reason=reason, message=message[:512]
            )
        )


def _release(node: Node, given_up: str | None = None) -> PatchNode:
    """As it was before."""
    gone: dict[str, str | None] = {REMOVAL_ANNOTATION: None, HANDED_OVER_ANNOTATION: None}
    annotations = gone | {GIVEN_UP_ANNOTATION: given_up}
    return PatchNode(node, annotations, unschedulable=None if node.was_cordoned else False)
