"""What people ask for: requests that mostly make sense, and now and then very many, in a hurry, or for too much."""

from __future__ import annotations

import random
from typing import Any

from tests.simulation.plan import Order, Request

Json = dict[str, Any]
# How many plans have a flood of requests, and how many requests that is: more than a leader takes at once.
_FLOODED = 0.05
_FLOOD = 200
# A request each second or two: something is under way whenever something breaks.
_HURRY = 40
# Workloads that want more room together than any fleet of a plan has.
_CROWD = 8
# Workloads that are deleted one by one, and do not come back.
_FAREWELLS = 10
# A workload that fills a cluster gives way to the next one, so many times, sooner or later than its pods are seen.
_RELAY = 12
_RELAY_S = (0.5, 4.0)
_RELAYED = 16
# Workloads that run at most once, and how often each is changed: most changes move it.
_ONCE = ("a0", "a1", "a2")
# Until pods have ended, and how soon a silent cluster is left by what runs by its lease.
_GRACE_S = 5
_TOLERATED = {"key": "flotilla.dev/silent", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
_ONCE_CHANGES = 8
# How many plans have workloads of different importance.
_RANKS = 0.2
# How many plans have gangs.
_GANGS = 0.25
# Requests without sense, one after another: each of them is to be refused.
_NONSENSE = 40


class Users:
    """Creations, changes, scalings and deletions of a few workloads, whose names begin with `prefix`."""

    def __init__(self, rng: random.Random, clusters: list[str], prefix: str = "w") -> None:
        self._rng = rng
        self._clusters = clusters
        self._prefix = prefix
        self._known: dict[str, Json] = {}

    def stream(self, until: float, count: int | None = None) -> list[Request]:
        number = self._rng.randint(4, 16) if count is None else count
        times = sorted(self._rng.uniform(3, until - 2) for _ in range(number))
        return [self._request(at) for at in times]

    def _request(self, at: float) -> Request:
        rng = self._rng
        name = f"{self._prefix}{rng.randint(0, 5)}"
        key = f"default/{name}"
        choice = rng.random()
        if choice < 0.06:
            return Request(at_s=at, key=key, value=rng.choice(("{", '{"operation":"apply"}', "[]", "null")))
        known = self._known.get(name)
        if known is not None and choice < 0.25:
            del self._known[name]
            return self._asked(at, key, {"operation": "delete", "workload": {"namespace": "default", "name": name}})
        if known is not None and choice < 0.8:
            workload = self._changed(known)
            operation = rng.choice(("apply", "change"))
        else:
            workload, operation = self._new(name), rng.choice(("apply", "create"))
        self._known[name] = workload
        return self._asked(at, key, {"operation": operation, "workload": workload})

    def come_and_go(self, name: str, at_s: float, until_s: float) -> list[Request]:
        key = f"default/{name}"
        ends = {"operation": "delete", "workload": {"namespace": "default", "name": name}}
        return [
            self._asked(at_s, key, {"operation": "apply", "workload": self._new(name)}),
            self._asked(until_s, key, ends),
        ]

    def _asked(self, at: float, key: str, value: Json) -> Request:
        return Request(at_s=at, key=key, value=value, repeated=self._rng.random() < 0.15)

    def _new(self, name: str) -> Json:
        rng = self._rng
        binding = rng.choice(("cluster", "cluster", "node"))
        sets = [self._pod_set(f"s{number}", binding) for number in range(rng.choice((1, 1, 2)))]
        placement: Json = {"binding": binding}
        if rng.random() < 0.25:
            placement["clusters"] = sorted(rng.sample(self._clusters, rng.randint(1, len(self._clusters))))
        return {"namespace": "default", "name": name, "podSets": sets, "placement": placement}

    def _pod_set(self, name: str, binding: str) -> Json:
        rng = self._rng
        if binding == "cluster" and rng.random() < 0.15:
            return {"name": name, "manifest": rng.choice((_config_map, _job))()}
        cpu = rng.choice(("100m", "500m", "1", "1", "2"))
        resources = {"requests": {"cpu": cpu, "memory": rng.choice(("64Mi", "256Mi", "1Gi"))}}
        return {
            "name": name,
            "replicas": rng.randint(0, 5),
            "image": f"app:{rng.randint(1, 3)}",
            "resources": resources,
        }

    def _changed(self, workload: Json) -> Json:
        rng = self._rng
        sets = []
        for pod_set in workload["podSets"]:
            changed = dict(pod_set)
            if "image" in changed:
                if rng.random() < 0.6:
                    changed["replicas"] = rng.randint(0, 6)
                if rng.random() < 0.4:
                    changed["image"] = f"app:{rng.randint(1, 3)}"
            sets.append(changed)
        return {**workload, "podSets": sets}


def orders(rng: random.Random, clusters: list[str], until: float, count: int) -> list[Order]:
    """What users of the hub ask for, and now and then that what others asked for in the log is to go."""
    made = [
        Order(at_s=request.at_s, name=request.key.partition("/")[2], spec=_spec(request.value))
        for request in Users(rng, clusters, "o").stream(until, count)
        if isinstance(request.value, dict) and len(request.value) > 1
    ]
    ended = [
        Order(at_s=rng.uniform(3, until - 2), name=f"w{rng.randint(0, 5)}") for _ in range(rng.choice((0, 0, 1, 2)))
    ]
    return sorted([*made, *ended], key=lambda order: order.at_s)


def _spec(request: Json) -> Json | None:
    if request["operation"] == "delete":
        return None
    return {name: request["workload"][name] for name in ("podSets", "placement")}


def flood(seed: int, busy: float, *, always: bool) -> list[Request]:
    """Now and then somebody asks for very much at once, and none of it makes sense."""
    rng = random.Random(f"{seed}/flood")
    if rng.random() > _FLOODED and not always:
        return []
    at_s = rng.uniform(3, busy - 2)
    return [Request(at_s=at_s, key=f"default/flood{number}", value="{") for number in range(_FLOOD)]


def hurry(seed: int, busy: float, clusters: list[str]) -> list[Request]:
    """Others, who never rest."""
    return Users(random.Random(f"{seed}/hurry"), clusters, "h").stream(busy, _HURRY)


def farewells(seed: int, busy: float, clusters: list[str]) -> list[Request]:
    """Workloads that are asked for early, and deleted for good: nothing that comes later hides how they ended."""
    rng = random.Random(f"{seed}/farewells")
    users = Users(rng, clusters)
    requests = []
    for number in range(_FAREWELLS):
        at_s = rng.uniform(3, busy / 2)
        requests += users.come_and_go(f"f{number}", at_s, rng.uniform(at_s + 3, busy))
    return sorted(requests, key=lambda request: request.at_s)


def nonsense(seed: int, busy: float, _: list[str]) -> list[Request]:
    """What has to be refused, about every second."""
    rng = random.Random(f"{seed}/nonsense")
    times = sorted(rng.uniform(3, busy - 2) for _ in range(_NONSENSE))
    return [Request(at_s=at_s, key=f"default/n{number}", value="{") for number, at_s in enumerate(times)]


def crowd(seed: int, busy: float, _: list[str]) -> list[Request]:
    """Replicas that are bound to nodes, and too many of them: every node is filled, and the rest waits."""
    rng = random.Random(f"{seed}/crowd")
    times = sorted(rng.uniform(3, busy - 2) for _ in range(_CROWD))
    return [_crowding(f"c{number}", at_s) for number, at_s in enumerate(times)]


def relay(seed: int, busy: float, clusters: list[str]) -> list[Request]:
    """One cluster is filled up, and what fills it goes in the moment in which as much comes to take its place."""
    rng = random.Random(f"{seed}/relay")
    at_s, cluster = rng.uniform(5, 10), rng.choice(clusters)
    requests = []
    for number in range(_RELAY):
        if number:
            requests.append(_ended(f"r{number - 1}", at_s))
        requests.append(_crowding(f"r{number}", at_s, replicas=_RELAYED, cpu="2", clusters=[cluster]))
        at_s += rng.uniform(*_RELAY_S)
    return [request for request in requests if request.at_s < busy - 2]


def once(seed: int, busy: float, clusters: list[str]) -> list[Request]:
    """Workloads that run at most once, and are sent from cluster to cluster, scaled, deleted and asked for again."""
    rng = random.Random(f"{seed}/once")
    requests = [
        _ended(name, at_s) if rng.random() < 0.15 else _at_most_once(rng, name, at_s, clusters)
        for name in _ONCE
        for at_s in sorted(rng.uniform(3, busy - 2) for _ in range(_ONCE_CHANGES))
    ]
    # What runs by a lease is mostly left alone: it is to be moved by what befalls its cluster.
    times = (rng.uniform(3, 5), rng.uniform(busy / 2, busy - 2))
    requests += [_at_most_once(rng, "leased", at_s, clusters, leased=True) for at_s in times]
    return sorted(requests, key=lambda request: request.at_s)


def _at_most_once(rng: random.Random, name: str, at_s: float, clusters: list[str], *, leased: bool = False) -> Request:
    resources = {"requests": {"cpu": rng.choice(("100m", "500m")), "memory": "64Mi"}}
    sets: list[Json] = []
    for number in range(rng.choice((1, 1, 2))):
        container = {"name": "main", "image": f"app:{rng.randint(1, 3)}", "resources": resources}
        template = {"spec": {"terminationGracePeriodSeconds": _GRACE_S, "containers": [container]}}
        sets.append({"name": f"s{number}", "replicas": rng.randint(1, 3), "template": template})
    placement: Json = {"atMostOnce": True}
    if leased:
        placement["tolerations"] = [_TOLERATED]
    elif rng.random() < 0.6:
        placement["clusters"] = [rng.choice(clusters)]
    workload = {"namespace": "default", "name": name, "podSets": sets, "placement": placement}
    return Request(at_s=at_s, key=f"default/{name}", value={"operation": "apply", "workload": workload})


def _ended(name: str, at_s: float) -> Request:
    value = {"operation": "delete", "workload": {"namespace": "default", "name": name}}
    return Request(at_s=at_s, key=f"default/{name}", value=value)


def _crowding(
    name: str, at_s: float, *, replicas: int = 4, cpu: str = "1", clusters: list[str] | None = None
) -> Request:
    resources = {"requests": {"cpu": cpu, "memory": "64Mi"}}
    pod_set = {"name": "s0", "replicas": replicas, "image": "app:1", "resources": resources}
    placement: Json = {"binding": "node"} | ({"clusters": clusters} if clusters else {})
    workload = {"namespace": "default", "name": name, "podSets": [pod_set], "placement": placement}
    return Request(at_s=at_s, key=f"default/{name}", value={"operation": "apply", "workload": workload})


def in_gangs(seed: int, requests: list[Request], *, always: bool) -> list[Request]:
    """The same requests; in a quarter of the seeds some of the workloads start together or not at all."""
    rng = random.Random(f"{seed}/gangs")
    if rng.random() > _GANGS and not always:
        return requests
    terms: dict[str, Json | None] = {}
    for request in requests:
        if request.key not in terms:
            terms[request.key] = rng.choice(({}, {"scope": "workload"}, None))
    return [_in_gang(request, terms[request.key]) for request in requests]


def _in_gang(request: Request, terms: Json | None) -> Request:
    if terms is None or not isinstance(request.value, dict) or "placement" not in request.value.get("workload", {}):
        return request
    workload = request.value["workload"]
    changed = {**workload, "placement": {**workload["placement"], "gang": terms}}
    return request.model_copy(update={"value": {**request.value, "workload": changed}})


def in_ranks(seed: int, busy: float, requests: list[Request], *, always: bool) -> list[Request]:
    """The same requests, and a crowd, of workloads that are of different importance; in a fifth of the seeds."""
    rng = random.Random(f"{seed}/ranks")
    if rng.random() > _RANKS and not always:
        return requests
    if not always:
        requests = [*requests, *crowd(seed, busy, [])]
    terms = {request.key: _importance(rng) for request in requests}
    return [_ranked(request, *terms[request.key]) for request in requests]


def _importance(rng: random.Random) -> tuple[Json, Json | None]:
    """What is said of a workload, and the budget of its pod sets."""
    terms: Json = {"priority": rng.choice((0, 0, 5, 10))}
    if rng.random() < 0.2:
        terms["preemptionPolicy"] = "Never"
    return terms, rng.choice((None, None, {"minAvailable": 1}, {"maxUnavailable": 1}, {"minAvailable": "50%"}))


def _ranked(request: Request, terms: Json, budget: Json | None) -> Request:
    if not isinstance(request.value, dict) or "placement" not in request.value.get("workload", {}):
        return request
    workload = request.value["workload"]
    sets = [
        {**pod_set, "disruptionBudget": budget} if budget and "image" in pod_set else pod_set
        for pod_set in workload["podSets"]
    ]
    changed = {**workload, **terms, "podSets": sets}
    return request.model_copy(update={"value": {**request.value, "workload": changed}})


def _config_map() -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}


def _job() -> Json:
    container = {"name": "main", "image": "job:1", "resources": {"requests": {"cpu": "100m"}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": template}}
