"""What the records say of the fleet, kept so that a look at it (`Seen`) costs little; time comes with what is told.

A replica that was placed and whose pod is not there yet takes its room already. A node that has not been ready yet, and
is young, is one that is coming: it is as good as its pods' place. Pods that wait are those that the scheduler could not
place, and those for which a cluster's own scheduler finds no node, whoever made them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.autoscaler.decision.nodes.objects import DO_NOT_DISRUPT, KEEP_NODE, PodKnowledge
from services.autoscaler.decision.nodes.pods import PodBudgets, PodsSeen, owned_by
from services.autoscaler.decision.nodes.scheduling import (
    BUDGETS,
    NODES,
    PODS,
    ClusterTable,
    KnownCluster,
    NodeObject,
    SchedulerConfig,
    SeenBudgets,
    ShareKey,
    allocatable,
    decode_node,
    taints_of,
)
from services.autoscaler.decision.nodes.seen import (
    EXPECTED,
    Cluster,
    GroupKey,
    Limits,
    Node,
    NodeGroup,
    NodeKey,
    Pod,
    PodSet,
    Seen,
)
from services.autoscaler.decision.nodes.spare import head_room_of
from services.autoscaler.decision.nodes.templates import taken_by_daemons, template_of
from services.autoscaler.decision.nodes.waiting import NOTHING, Asked, Owner, Share, WorkloadReader
from shared.events.v1.clusters import ClusterDeclared, HeadRoom, NodeLimits
from shared.events.v1.clusters import NodeGroup as DeclaredGroup
from shared.events.v1.decisions import WorkloadPlaced
from shared.events.v1.objects import ClusterObserved
from shared.model.identities import NODE_GROUP_LABEL, ZONE_LABEL, ObjectKey
from shared.model.quantities import resource_amount
from shared.model.taints import Taint

KEPT: Final = "its annotation forbids it"
NOT_HEARD: Final = "its cluster is not heard, or takes no pods"
# What nodes have for as long as they begin.
_BOOTING: Final = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
# Of these, what keeps pods away from a node that says that it is ready until controllers have looked at it.
_UNTIL_BEGUN: Final = frozenset(
    {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/network-unavailable",
        "node.cloudprovider.kubernetes.io/uninitialized",
    }
)


class Sized(NamedTuple):
    """Of a group: how many nodes are asked for, without those that are being removed."""

    size: int
    removing: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Node:
    """`first_ms`: since when it is known; `began`: it was ready for pods once."""

    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    allocatable: Mapping[str, int]
    ready: bool
    unschedulable: bool
    kept: bool
    first_ms: int
    began: bool

    @property
    def group(self) -> str:
        return self.labels.get(NODE_GROUP_LABEL, "")


class _Terms(NamedTuple):
    """Of the node groups of a cluster together."""

    head_room: HeadRoom | None
    limits: Limits


class _Look(NamedTuple):
    """What one look goes by. `budgets` is None where no node is to go."""

    now_ms: int
    coming: bool
    open_now: frozenset[str]
    sized: Mapping[GroupKey, Sized]
    expected: Mapping[NodeKey, list[Pod]]
    knowledge: PodKnowledge
    budgets: PodBudgets | None


class FleetSeen:
    """`changed` rises with what asks for a plan: somebody waits who did not, or groups are others.

    A node may take `provision_ms` until it is ready. `head_room` is that of clusters that say nothing of theirs.
    """

    def __init__(self, config: SchedulerConfig, provision_ms: int, head_room: HeadRoom | None = None) -> None:
        self._config = config
        self._head_room = head_room
        self._terms: dict[str, _Terms] = {}
        self._provision_ms = provision_ms
        self._clusters = ClusterTable(config)
        self._groups: dict[GroupKey, DeclaredGroup] = {}
        self._nodes: dict[NodeKey, _Node] = {}
        self._pods, self._budgets = PodsSeen(), SeenBudgets()
        self._workloads = WorkloadReader(config.gpu_resource)
        self._asked: dict[str, Asked] = {}
        self._shares: dict[ShareKey, Share] = {}
        self._pending: dict[str, tuple[PodSet, ...]] = {}
        # Replicas whose pods are not there yet, by share and node; of shares that are stale to be counted anew.
        self._expected: dict[ShareKey, Counter[str]] = {}
        self.changed = 0

    # --- what is told ---

    def hear(self, cluster: str, heartbeat: ClusterObserved | None, heard_at: int) -> None:
        """None is the heartbeat's tombstone."""
        if heartbeat is None:
            self._clusters.forget(cluster)
        else:
            self._clusters.observe(heartbeat, heard_at)

    def declare(self, cluster: str, declared: ClusterDeclared | None) -> None:
        self._clusters.declare(cluster, declared)
        groups = {GroupKey(cluster, item.name): item for item in (declared.node_groups if declared else ())}
        former = {key: item for key, item in self._groups.items() if key.cluster == cluster}
        terms = self._terms.pop(cluster, None)
        if declared is not None and groups:
            self._terms[cluster] = _Terms(declared.head_room or self._head_room, _limits(declared.node_limits))
        if groups != former or terms != self._terms.get(cluster):
            self.changed += 1
            self._groups = {key: item for key, item in self._groups.items() if key.cluster != cluster} | groups

    def place(self, key: str, placed: WorkloadPlaced | None) -> None:
        """A workload as it was decided upon; None: it is gone."""
        former = self._asked.pop(key, NOTHING)
        asked = self._workloads.read(placed) if placed is not None else NOTHING
        for share in former.shares:
            self._shares.pop(share.key, None)
        for share in asked.shares:
            self._shares[share.key] = share
        self._pods.stale.update(share.key for share in (*former.shares, *asked.shares))
        if asked.shares or asked.pending:
            self._asked[key] = asked
        self._pending.pop(key, None)
        if asked.pending:
            self._pending[key] = asked.pending
        before, after = ({item.key: item.count for item in each.pending} for each in (former, asked))
        self.changed += any(count > before.get(name, 0) for name, count in after.items())

    def observe(self, key: ObjectKey, raw: bytes | None, heard_at: int) -> None:
        """Nodes, pods and disruption budgets; all else is ignored. Raises DecodeError, with nothing changed."""
        if key.resource == PODS:
            self.changed += self._pods.observe(key, raw)
        elif key.resource == NODES:
            self._observe_node(NodeKey(key.cluster, key.name), raw, heard_at)
        elif key.resource == BUDGETS:
            self._budgets.observe(key, raw)

    def _observe_node(self, key: NodeKey, raw: bytes | None, heard_at: int) -> None:
        if raw is None:
            self._nodes.pop(key, None)
            return
        node, former = decode_node(raw), self._nodes.get(key)
        annotations = node.metadata.annotations or {}
        self._nodes[key] = _Node(
            labels=node.metadata.labels or {},
            taints=taints_of(node),
            allocatable=allocatable(node),
            ready=node.ready,
            unschedulable=node.spec.unschedulable,
            kept=annotations.get(KEEP_NODE) == "true" or annotations.get(DO_NOT_DISRUPT) == "true",
            first_ms=former.first_ms if former is not None else heard_at,
            began=(former is not None and former.began) or _began(node),
        )

    # --- what there is ---

    @property
    def groups(self) -> Mapping[GroupKey, DeclaredGroup]:
        return self._groups

    def open_clusters(self, now_ms: int) -> frozenset[str]:
        """Those that are heard, and take pods."""
        self._clusters.watch_silence(now_ms)
        return frozenset(item.name for item in self._clusters if not item.refusal)

    def there(self) -> dict[GroupKey, set[str]]:
        """The names of the nodes of each group that was declared."""
        found: dict[GroupKey, set[str]] = {key: set() for key in self._groups}
        for key, node in self._nodes.items():
            group = GroupKey(key.cluster, node.group)
            if group in found:
                found[group].add(key.name)
        return found

    def seen(self, sized: Mapping[GroupKey, Sized], now_ms: int, *, coming: bool) -> Seen:
        """With `coming`, nodes that begin count as if they had begun: for growing. Without, for shrinking, budgets and
        what pods forbid count as well.
        """
        open_now = self.open_clusters(now_ms)
        self._settle()
        look = _Look(
            now_ms=now_ms,
            coming=coming,
            open_now=open_now,
            sized=sized,
            expected=self._places_expected(sized),
            knowledge=PodKnowledge(self._pods.all(), self._pending.values()),
            budgets=None if coming else PodBudgets(self._budgets),
        )
        nodes = tuple(self._node(key, node, look) for key, node in self._nodes.items())
        return Seen(
            clusters=tuple(self._cluster(item, open_now) for item in self._clusters),
            groups=tuple(self._group(key, sized[key], nodes) for key in sorted(self._groups) if key in sized),
            nodes=nodes,
            pending=(*(item for each in self._pending.values() for item in each), *self._pods.pending(look.knowledge)),
            head_room=tuple(self._spare(nodes, open_now)),
            budgets={} if coming else {"/".join(item.key): item.left for item in self._budgets},
        )

    def owners(self) -> dict[str, Owner]:
        """Whose the pod sets that wait are, by their keys; of pods of no workload it says nothing."""
        found = {
            item.key: Owner(workload, self._asked[workload].uid)
            for workload, pending in self._pending.items()
            for item in pending
        }
        for pod in self._pods.waiting():
            asked = self._asked.get(pod.share.workload) if pod.share is not None else None
            if pod.share is not None and asked is not None:
                found[owned_by(pod)] = Owner(pod.share.workload, asked.uid)
        return found

    def _cluster(self, item: KnownCluster, open_now: frozenset[str]) -> Cluster:
        terms = self._terms.get(item.name)
        limits = terms.limits if terms is not None else Limits()
        return Cluster(item.name, item.labels, item.taints, open=item.name in open_now, limits=limits)

    def _spare(self, nodes: Iterable[Node], open_now: frozenset[str]) -> Iterator[PodSet]:
        """The head-room of clusters whose nodes are known."""
        wanted = {name: terms.head_room for name, terms in sorted(self._terms.items()) if name in open_now}
        of_cluster: dict[str, list[Node]] = {}
        for node in nodes:
            of_cluster.setdefault(node.cluster, []).append(node)
        for name, head_room in wanted.items():
            found = head_room_of(name, head_room, of_cluster.get(name, ())) if head_room is not None else None
            if found is not None:
                yield found

    def _places_expected(self, sized: Mapping[GroupKey, Sized]) -> dict[NodeKey, list[Pod]]:
        """Pods that are to come, by node; in place of those on a node that goes they are expected anywhere else."""
        leaving = {NodeKey(group.cluster, name) for group, size in sized.items() for name in size.removing}
        expected: dict[NodeKey, list[Pod]] = {}
        for share, places in self._expected.items():
            for number, name in enumerate(places.elements()):
                at = NodeKey(share.cluster, name)
                if at not in leaving:
                    pod = Pod(f"{'/'.join(share)}/expected-{number}", self._shares[share].demand, pinned=EXPECTED)
                    expected.setdefault(at, []).append(pod)
        return expected

    def _settle(self) -> None:
        """Counts anew whose pods are expected, where anything has changed."""
        for key in self._pods.stale:
            share, pods = self._shares.get(key), list(self._pods.of_share(key))
            self._expected.pop(key, None)
            if share is None:
                continue
            missing = len(share.nodes) - len(pods)
            if missing > 0:
                open_places = Counter(share.nodes) - Counter(pod.node for pod in pods)
                self._expected[key] = Counter(list(open_places.elements())[:missing])
        self._pods.stale.clear()

    def _node(self, key: NodeKey, node: _Node, look: _Look) -> Node:
        group = look.sized.get(GroupKey(key.cluster, node.group))
        begins = look.coming and not node.began and look.now_ms - node.first_ms < self._provision_ms
        taints = tuple(item for item in node.taints if not (begins and item.key.startswith(_BOOTING)))
        kept = KEPT if node.kept else "" if key.cluster in look.open_now else NOT_HEARD
        return Node(
            cluster=key.cluster,
            name=key.name,
            allocatable=node.allocatable,
            group=node.group,
            labels=node.labels,
            taints=taints,
            zone=node.labels.get(ZONE_LABEL, ""),
            price=self._clusters.node_price(key.cluster, node.labels)[1],
            ready=node.ready or begins,
            unschedulable=node.unschedulable or (group is not None and key.name in group.removing),
            kept=kept,
            pods=(*self._pods.on_node(key, look.knowledge, look.budgets), *look.expected.get(key, ())),
        )

    def _group(self, key: GroupKey, sized: Sized, nodes: Iterable[Node]) -> NodeGroup:
        declared = self._groups[key]
        mine = [node for node in nodes if node.cluster == key.cluster]
        own = [node for node in mine if node.group == key.name]
        going = sum(node.name in sized.removing for node in own)
        return NodeGroup(
            cluster=key.cluster,
            name=key.name,
            template=template_of(declared, taken_by_daemons(own or mine)),
            size=sized.size + going,
            most=declared.max_size,
            least=declared.min_size,
            price=declared.price,
        )


def _limits(declared: NodeLimits | None) -> Limits:
    if declared is None:
        return Limits()
    amounts = {
        name: resource_amount(name, text)
        for name, text in (("cpu", declared.cpu), ("memory", declared.memory))
        if text is not None
    }
    return Limits(nodes=declared.nodes, price_per_hour=declared.price_per_hour, amounts=amounts)


def _began(node: NodeObject) -> bool:
    """Whether pods could go there once, as far as it says itself: what begins says that it is not ready, and then is
    ready with a taint for a moment.
    """
    if node.ready:
        return not any(item.key in _UNTIL_BEGUN for item in node.spec.taints or ())
    return any(item.type == "Ready" and item.status == "Unknown" for item in node.status.conditions or ())
