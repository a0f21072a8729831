"""The pods of the fleet, kept so that a look at them costs little: by node, by share, and those that wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from services.autoscaler.decision.nodes.objects import ObservedPod, PodKnowledge, PodReader
from services.autoscaler.decision.nodes.scheduling import Demand, PodFacts, SeenBudgets, ShareKey
from services.autoscaler.decision.nodes.seen import NodeKey, Pod, PodSet
from shared.model.identities import ObjectKey

_NONE: Mapping[str, ObservedPod] = {}


class PodsSeen:
    """Shares whose pods are others than before are in `stale`, until that is cleared."""

    def __init__(self) -> None:
        self._reader = PodReader()
        self._pods: dict[str, ObservedPod] = {}
        self._on_node: dict[NodeKey, dict[str, ObservedPod]] = {}
        self._of_share: dict[ShareKey, dict[str, ObservedPod]] = {}
        self._waits: dict[str, ObservedPod] = {}
        # As plans see them where nobody asks anything of others; made when they are looked at.
        self._plain: dict[NodeKey, tuple[Pod, ...]] = {}
        self.stale: set[ShareKey] = set()

    def observe(self, key: ObjectKey, raw: bytes | None) -> bool:
        """Whether a pod waits for a node that did not. Raises DecodeError, with nothing changed."""
        name = f"{key.cluster}/{key.namespace}/{key.name}"
        pod = self._reader.read(key, raw) if raw is not None else None
        former = self._pods.pop(name, None)
        if former is not None:
            self._forget(name, former)
        if pod is None:
            return False
        self._pods[name] = pod
        if pod.node:
            self._on_node.setdefault(pod.at, {})[name] = pod
            self._plain.pop(pod.at, None)
        if pod.share is not None:
            self._of_share.setdefault(pod.share, {})[name] = pod
            self.stale.add(pod.share)
        if not pod.waits or pod.daemon:
            return False
        self._waits[name] = pod
        return former is None or not former.waits

    def _forget(self, name: str, pod: ObservedPod) -> None:
        self._waits.pop(name, None)
        if pod.node:
            self._plain.pop(pod.at, None)
            there = self._on_node[pod.at]
            del there[name]
            if not there:
                del self._on_node[pod.at]
        if pod.share is not None:
            mine = self._of_share[pod.share]
            del mine[name]
            if not mine:
                del self._of_share[pod.share]
            self.stale.add(pod.share)

    def all(self) -> Iterable[ObservedPod]:
        return self._pods.values()

    def waiting(self) -> Iterable[ObservedPod]:
        """Those for which their clusters find no node, but for those of DaemonSets."""
        return self._waits.values()

    def of_share(self, share: ShareKey) -> Iterable[ObservedPod]:
        return self._of_share.get(share, _NONE).values()

    def on_node(self, key: NodeKey, knowledge: PodKnowledge, budgets: PodBudgets | None) -> Iterable[Pod]:
        """As plans see them; without `budgets` none counts them."""
        there = self._on_node.get(key)
        if not there:
            return ()
        plain = self._plain.get(key)
        if plain is None:
            plain = self._plain[key] = tuple(map(_plain, there.values()))
        if not knowledge.asked and budgets is None:
            return plain
        return (
            _known(pod, knowledge.of(seen), budgets.of(seen) if budgets is not None else ())
            for pod, seen in zip(plain, there.values(), strict=True)
        )

    def pending(self, knowledge: PodKnowledge) -> Iterator[PodSet]:
        """Pods for which their clusters find no node; those of one owner that are alike together."""
        found: dict[tuple[str, str, str, Demand], PodSet] = {}
        for pod in self._waits.values():
            key = (pod.cluster, pod.namespace, pod.owner, pod.demand)
            known = found.get(key)
            if known is None:
                name, facts = owned_by(pod), knowledge.waiting(pod)
                found[key] = PodSet(name, pod.demand, 1, pod.priority, pod.created_ms, 1, facts=facts)
            else:
                first = min(known.requested_at, pod.created_ms)
                found[key] = replace(known, count=known.count + 1, desired=known.count + 1, requested_at=first)
        return iter(found.values())


class PodBudgets:
    """Of one look, the disruption budgets that count a pod; once for pods that are alike."""

    def __init__(self, budgets: SeenBudgets) -> None:
        self._budgets = budgets
        self._known: dict[tuple[str, str, tuple[tuple[str, str], ...]], tuple[str, ...]] = {}

    def of(self, pod: ObservedPod) -> tuple[str, ...]:
        if pod.daemon:
            return ()
        key = (pod.cluster, pod.namespace, pod.labels)
        found = self._known.get(key)
        if found is None:
            about = self._budgets.about(pod.cluster, pod.namespace, dict(pod.labels))
            found = self._known[key] = tuple("/".join(budget.key) for budget in about)
        return found


def owned_by(pod: ObservedPod) -> str:
    """The key of the pod set that pods of one owner are."""
    return f"{pod.cluster}/{pod.namespace}/{pod.owner}"


def _plain(pod: ObservedPod) -> Pod:
    return Pod(pod.key, pod.demand, daemon=pod.daemon, pinned=pod.pinned, ready=pod.ready, leaving=pod.leaving)


def _known(pod: Pod, facts: PodFacts | None, budgets: tuple[str, ...]) -> Pod:
    return replace(pod, facts=facts, budgets=budgets) if facts is not None or budgets else pod
