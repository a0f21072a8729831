"""The pods that exist, what they take from their nodes, and which replicas they stand for.

A pod counts as seen once it is bound. While it runs it takes its requests from its node, or what its pod set asks
now if that is more: a pod that is about to be replaced by a larger one keeps the room for it. When it has run to
its end it takes nothing; if it was meant to end, it goes on standing for its replica, unless a controller made it: a
Job makes another one, or says itself that it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from weakref import WeakValueDictionary

from services.scheduler.decision.seen.observed import TERMINAL_PHASES, PodObject, affinity_of, pod_requests
from services.scheduler.decision.seen.reservations import ShareKey, ShareReservations
from services.scheduler.decision.seen.slots import Hold, NodeSlot, NodeSlots
from services.scheduler.decision.table.neighbours import PodFacts
from services.scheduler.decision.table.requests import Request, Requests
from services.scheduler.decision.table.rules import terms_of
from shared.model.identities import POD_SET_LABEL, WORKLOAD_LABEL, WORKLOAD_NAMESPACE_LABEL
from shared.model.pod_objects import gpu_milli


class SeenPod:
    """A bound pod. `hold` is None once it has ended; `share` is None where it belongs to no workload of ours."""

    __slots__ = ("facts", "hold", "name", "ready", "request", "share", "slot")

    def __init__(self, slot: NodeSlot, share: ShareReservations | None, request: Request, facts: PodFacts) -> None:
        self.facts = facts
        self.slot = slot
        self.share = share
        self.request = request
        self.hold: Hold | None = None
        self.ready = False
        # Unique in the fleet.
        self.name = ""

    @property
    def ordinal(self) -> int:
        """The number in the name of a pod that Flotilla made; -1 where there is none."""
        number = self.name.rpartition("-")[2]
        return int(number) if number.isascii() and number.isdigit() else -1


class PodRegistry:
    """`unsettled` collects shares whose replicas may have lost their place: a pod vanished, or a reserved node changed.
    `unschedulable` has the pods that their cluster has no node for.
    """

    def __init__(self, slots: NodeSlots, requests: Requests) -> None:
        self._slots = slots
        self._requests = requests
        self._pods: dict[str, SeenPod] = {}
        self._shares: dict[ShareKey, ShareReservations] = {}
        # The share of a key, if it is known.
        self.find_share: Callable[[ShareKey], ShareReservations | None] = self._shares.get
        self._by_share: dict[ShareReservations, dict[SeenPod, None]] = {}
        self._facts: WeakValueDictionary[tuple[object, ...], PodFacts] = WeakValueDictionary()
        self.unsettled: set[ShareKey] = set()
        self.unschedulable: dict[str, ShareKey] = {}

    def observe(self, name: str, cluster: str, namespace: str, pod: PodObject) -> None:
        """`name` is unique in the fleet. Raises DecodeError, with nothing changed, for amounts that are none."""
        amounts = pod_requests(pod)
        request = self._requests.intern(amounts, gpu_milli(pod.metadata.annotations), pod.spec.host_ports())
        key = share_of(cluster, pod.metadata.labels)
        self._note_unschedulable(name, key, pod)
        ended = pod.status.phase in TERMINAL_PHASES
        stands = not ended or (pod.spec.restart_policy != "Always" and not pod.controlled)
        known = self._pods.get(name)
        node = pod.spec.node_name
        facts = self._facts_of(namespace, pod)
        if known is not None and known.facts is facts and self._same(known, node, key, request, ended=ended):
            _note_ready(known, ready=pod.ready)
            return
        if known is not None:
            self._remove(name, known)
        if node and (stands or not ended):
            known = self._pods[name] = self._add(self._slots.ensure(cluster, node), key, request, facts, ended=ended)
            known.name = name
            _note_ready(known, ready=pod.ready)

    def forget(self, name: str) -> None:
        self.unschedulable.pop(name, None)
        known = self._pods.get(name)
        if known is not None:
            self._remove(name, known)

    def share(self, key: ShareKey) -> ShareReservations:
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = ShareReservations(key, self._slots)
            self._by_share[share] = {}
        return share

    def crowded(self) -> Iterator[ShareReservations]:
        """Those with pods that stand for no replica any more. Takes the time of all shares."""
        return (share for share in self._shares.values() if share.seen > share.replicas)

    def pods_of(self, share: ShareReservations) -> Iterable[SeenPod]:
        return self._by_share[share]

    def begin_share(self, key: ShareKey, ready: Sequence[Hold], *, bound: bool) -> None:
        """A share of which nothing is known yet, with the room for each of its replicas."""
        share = self.share(key)
        share.begin(ready, bound=bound)

    def begin_single(self, key: ShareKey, hold: Hold, *, bound: bool) -> None:
        """What `begin_share` does for one replica."""
        share = self._shares[key] = ShareReservations.of_one(key, self._slots, hold, bound=bound)
        self._by_share[share] = {}

    def set_share(
        self,
        key: ShareKey,
        nodes: Sequence[NodeSlot],
        request: Request | None,
        ready: Sequence[Hold] = (),
        facts: PodFacts | None = None,
        *,
        bound: bool = False,
    ) -> None:
        """The nodes of a share from now on, and what each of its replicas asks; see `ShareReservations.set_share`."""
        share = self.share(key)
        share.set_share(nodes, request, ready, facts, bound=bound)
        for pod in self._by_share[share]:
            if pod.hold is not None:
                self._slots.resize(pod.hold, self._effective(pod.request, share))
        if not nodes:
            self._drop_unused(share)

    def _same(self, known: SeenPod, node: str, key: ShareKey | None, request: Request, *, ended: bool) -> bool:
        return (
            known.slot.name == node
            and (known.hold is None) == ended
            and known.request is request
            and (known.share.key if known.share else None) == key
        )

    def _add(self, slot: NodeSlot, key: ShareKey | None, request: Request, facts: PodFacts, *, ended: bool) -> SeenPod:
        self._slots.use(slot)
        share = self.share(key) if key is not None else None
        pod = SeenPod(slot, share, request, facts)
        hold = None
        if share is not None:
            self._by_share[share][pod] = None
            hold = share.pod_seen(slot)
        if ended:
            if hold is not None:
                self._slots.release(hold)
            return pod
        wanted = self._effective(request, share)
        if hold is None:
            hold = self._slots.hold(slot, wanted, None, facts)
        else:
            self._slots.resize(hold, wanted)
            self._slots.know(hold, facts)
        pod.hold, hold.pod = hold, pod
        return pod

    def _remove(self, name: str, pod: SeenPod) -> None:
        del self._pods[name]
        _note_ready(pod, ready=False)
        if pod.hold is not None:
            self._slots.release(pod.hold)
        if pod.share is not None:
            del self._by_share[pod.share][pod]
            pod.share.pod_gone(pod.slot)
            self.unsettled.add(pod.share.key)
            self._drop_unused(pod.share)
        self._slots.leave(pod.slot)

    def _facts_of(self, namespace: str, pod: PodObject) -> PodFacts:
        """One object for pods that are alike. Raises DecodeError."""
        labels = tuple((pod.metadata.labels or {}).items())
        ending, affinity = pod.metadata.deletion_timestamp is not None, pod.spec.affinity
        raw = (affinity.near, affinity.far) if affinity is not None else None
        key = (namespace, labels, ending, raw)
        facts = self._facts.get(key)
        if facts is None:
            terms = terms_of(*affinity_of(affinity), namespace, dict(labels)) if affinity is not None else ()
            facts = self._facts[key] = PodFacts(namespace, dict, labels, terms, ending=ending)
        return facts

    def _effective(self, request: Request, share: ShareReservations | None) -> Request:
        if share is None or share.request is None:
            return request
        return self._requests.larger(request, share.request)

    def _note_unschedulable(self, name: str, key: ShareKey | None, pod: PodObject) -> None:
        if key is not None and not pod.spec.node_name and pod.unschedulable:
            self.unschedulable[name] = key
        else:
            self.unschedulable.pop(name, None)

    def _drop_unused(self, share: ShareReservations) -> None:
        if share.empty:
            self.unsettled.discard(share.key)
            del self._shares[share.key]
            del self._by_share[share]


def _note_ready(pod: SeenPod, *, ready: bool) -> None:
    if pod.ready is not ready:
        pod.ready = ready
        if pod.share is not None:
            pod.share.ready += 1 if ready else -1


def share_of(cluster: str, labels: dict[str, str] | None) -> ShareKey | None:
    """The share that an object with these labels belongs to, if it is one of ours."""
    if not labels or WORKLOAD_LABEL not in labels or POD_SET_LABEL not in labels:
        return None
    namespace = labels.get(WORKLOAD_NAMESPACE_LABEL, "default")
    return ShareKey(f"{namespace}/{labels[WORKLOAD_LABEL]}", labels[POD_SET_LABEL], cluster)
