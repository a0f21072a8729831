"""What workloads ask for beside replicas: a kind for each policy, by which each is named, so that it keeps its kind.

    plain, moving, gang, spread    wherever there is room
    failback                       best in the cluster that is cut off at times, to which it returns
    once                           at most once: it leaves a cluster that says that it is gone
    leased                         at most once by a lease, and best in the cluster that is cut off at times
    guaranteed, borrowing          in one cluster, which is too small for both

The one that borrows asks for nearly all of its cluster, so whenever the other grows something is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shared.model.identities import WORKLOAD_LABEL

Json = dict[str, Any]

PLAIN, FAILBACK, MOVING, GANG, SPREAD = "plain", "failback", "moving", "gang", "spread"
ONCE, LEASED = "once", "leased"
GUARANTEED, BORROWING = "guaranteed", "borrowing"
# How often each kind is asked for; the two of the queues are asked for once.
WEIGHTS: Final[Mapping[str, int]] = {PLAIN: 5, FAILBACK: 3, MOVING: 2, GANG: 3, SPREAD: 2, ONCE: 3, LEASED: 3}
# Kinds whose pods Flotilla binds, and those whose pods it does not; of the others either.
BOUND: Final = frozenset({GANG, SPREAD, GUARANTEED, BORROWING})
UNBOUND: Final = frozenset({ONCE, LEASED})
QUEUES: Final[Mapping[str, Json]] = {"team": {"weight": 2, "guarantee": {"cpu": "3"}}, "batch": {"limit": {"cpu": "9"}}}
BORROWED: Final = 8
_GRACE_S: Final = 5
_PLACEMENT: Final[Mapping[str, Json]] = {
    FAILBACK: {"failback": True},
    MOVING: {"rebalance": {"minimumGain": 0.05, "cooldownSeconds": 10}},
    GANG: {"gang": {}},
    ONCE: {"atMostOnce": True},
    LEASED: {
        "atMostOnce": True,
        "tolerations": [
            {"key": "flotilla.dev/silent", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
        ],
    },
}
_HOMESICK: Final = frozenset({FAILBACK, LEASED})
_QUEUE: Final[Mapping[str, str]] = {GUARANTEED: "team", BORROWING: "batch"}


def kind_of(key: str) -> str:
    """Of a workload, by its name."""
    return key.rpartition("/")[2].rstrip("0123456789")


def workload(key: str, pod_set: Json, binding: str, *, cluster: str = "", home: str = "") -> Json:
    """`pod_set` has an image; kinds that need one make a pod template of it. `cluster` is the only eligible one, `home`
    the best for some kinds.
    """
    namespace, _, name = key.partition("/")
    kind = kind_of(key)
    placement = {"binding": binding, **_PLACEMENT.get(kind, {}), **({"clusters": [cluster]} if cluster else {})}
    if home and kind in _HOMESICK:
        placement["preferences"] = [{"clusters": [home], "weight": 100}]
    queue = {"queue": _QUEUE[kind]} if kind in _QUEUE else {}
    return {
        "namespace": namespace,
        "name": name,
        "podSets": [_podded(kind, name, pod_set)],
        "placement": placement,
        **queue,
    }


def _podded(kind: str, name: str, pod_set: Json) -> Json:
    spec: Json = {"containers": [{"name": "main", "image": pod_set["image"], "resources": pod_set["resources"]}]}
    match kind:
        case "once" | "leased":
            spec["terminationGracePeriodSeconds"] = _GRACE_S
        case "spread":
            rule = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
            spec["topologySpreadConstraints"] = [{**rule, "labelSelector": {"matchLabels": {WORKLOAD_LABEL: name}}}]
        case _:
            return pod_set
    rest = {name: pod_set[name] for name in pod_set if name not in {"image", "resources"}}
    return {**rest, "template": {"spec": spec}}
