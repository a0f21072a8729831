"""From a seed to a plan: the fleet's shape, what people ask for and do, and what breaks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.simulation.plan import Action, ClusterPlan, Fault, Plan, Request
from tests.simulation.slots import HUB, slots_of
from tests.simulation.terms import absence, in_budgets, in_queues, in_return, prices, queues, rebalanced
from tests.simulation.users import (
    Users,
    crowd,
    farewells,
    flood,
    hurry,
    in_gangs,
    in_ranks,
    nonsense,
    once,
    orders,
    relay,
)

_NAMES = ("alpha", "beta", "gamma")
# Of a seed, until the time when all is quiet, in these clusters.
Scene = Callable[[int, float, list[str]], list[Request]]
# What users do as well where a hunt's kinds name it: none of these is a fault.
FLOOD, HURRY, FAREWELLS, NONSENSE = "flood", "hurry", "farewells", "nonsense"
CROWD, RELAY, GANGS, RANKS, ONCE = "crowd", "relay", "gangs", "ranks", "once"
RETURNS, REBALANCED, QUEUED, PRICED = "returns", "rebalanced", "queued", "priced"
# What workloads are like, all of those that users ask for.
_TERMS = frozenset({GANGS, RANKS, RETURNS, REBALANCED, QUEUED, PRICED})
# That a hub is there and much is ordered in it; kinds of faults that end so befall the hub, or its API server, alone.
ORDERS, TO_HUB = "orders", f":{HUB}"
# How many of the plans that fence have a hub: a third of all. The hub has no other guard against its former leaders.
_HUBS = 0.66
_MANY = 40
SCENES: Mapping[str, Scene] = {
    HURRY: hurry,
    FAREWELLS: farewells,
    NONSENSE: nonsense,
    CROWD: crowd,
    RELAY: relay,
    ONCE: once,
}
# How many plans have workloads that run at most once, and in how many of these a cluster is cut off.
_ONCE, _CUT_OFF = 0.25, 0.7


# Kinds of faults, by what they befall. A plan draws a few kinds and some faults of each.
PROCESS_FAULTS = ("kill", "outage", "kill_at_effect", "pause", "stop", "jump_clock")
LOG_FAULTS = ("cut_log", "slow_log", "lose_log_calls")
API_FAULTS = (
    "cut_api",
    "slow_api",
    "stale_api",
    "throttle_api",
    "fail_api",
    "lose_api_calls",
    "drop_watches",
    "forget_api",
)
# Drawn only for what runs at most once: more kinds would make other plans of all seeds.
CLUSTER_FAULTS = ("cut_off",)
WORLD_FAULTS = ("clean_log", "lose_broker", "cut_store", "wipe_store")
ALL_KINDS = (*PROCESS_FAULTS, *LOG_FAULTS, *API_FAULTS, *WORLD_FAULTS)
KINDS = ALL_KINDS
HUB_KINDS = (*PROCESS_FAULTS, *LOG_FAULTS, *API_FAULTS)


def generate(seed: int, kinds: Sequence[str] = ()) -> Plan:
    """The plan of a seed. With `kinds`, all that breaks is of these kinds, and more often.

    A kind may name whom it befalls by the beginning of the name, as in `kill:scheduler`. Two of them together, as in
    `cut_log:executor+short_reads`, are a fault and another one that begins while the first lasts, and outlasts it.
    `FLOOD`, `ORDERS`, `SCENES`, and what workloads are like, are none of the faults.
    """
    rng = random.Random(f"{seed}/plan")
    clusters = tuple(
        ClusterPlan(name=name, nodes=rng.randint(2, 4), cpu=rng.choice((2, 4, 8)), pod_start_s=rng.choice((0.5, 1, 3)))
        for name in _NAMES[: rng.choice((1, 2, 2, 3))]
    )
    names = [cluster.name for cluster in clusters]
    busy = rng.uniform(40, 90)
    agents, schedulers = rng.choice(("each", "each", "shared")), rng.choice((1, 2, 2))
    services = [slot.name for slot in slots_of(names, agents, schedulers)]
    hubs = [kind for kind in kinds if kind == ORDERS or kind.endswith(TO_HUB)]
    only = [kind for kind in kinds if kind != FLOOD and kind not in _TERMS and kind not in SCENES and kind not in hubs]
    requests, actions = Users(rng, names).stream(busy), _actions(rng, names, busy)
    faults = _faults(rng, names, services, busy, only) if only or not hubs else []
    requests += flood(seed, busy, always=FLOOD in kinds)
    for kind in kinds:
        if kind in SCENES:
            requests += SCENES[kind](seed, busy, names)
    if not kinds and random.Random(f"{seed}/with-once").random() < _ONCE:
        requests += once(seed, busy, names)
        if agents == "each":
            faults += _cut_offs(seed, busy, names)
    if not kinds or GANGS in kinds:
        requests = in_gangs(seed, requests, always=GANGS in kinds)
    if not kinds or RANKS in kinds:
        requests = in_ranks(seed, busy, requests, always=RANKS in kinds)
    if not kinds or RETURNS in kinds:
        requests = in_return(seed, requests, always=RETURNS in kinds)
    if not kinds or REBALANCED in kinds:
        requests = rebalanced(seed, requests, always=REBALANCED in kinds)
    if not kinds:
        faults = sorted([*faults, *absence(seed, services, busy)], key=lambda fault: fault.at_s)
    lines = queues(seed, clusters, always=QUEUED in kinds) if not kinds or QUEUED in kinds else {}
    if lines:
        requests = in_queues(seed, busy, requests)
    priced = prices(seed, clusters, always=PRICED in kinds) if not kinds or PRICED in kinds else clusters
    if priced != clusters:
        clusters, requests = priced, in_budgets(seed, requests)
    plan = Plan(
        seed=seed,
        clusters=clusters,
        agents=agents,
        schedulers=schedulers,
        fenced=random.Random(f"{seed}/fenced").random() < 0.5,
        queues=lines,
        requests=tuple(requests),
        actions=tuple(actions),
        faults=tuple(faults),
        busy_s=busy,
        quiet_s=rng.choice((0, 0, 60, 300)),
    )
    rng = random.Random(f"{seed}/hub")
    if hubs or (not kinds and plan.fenced and rng.random() < _HUBS):
        return _with_hub(plan, rng, hubs)
    return plan


def _with_hub(plan: Plan, rng: random.Random, kinds: list[str]) -> Plan:
    """The same plan, and a hub in it: nothing else is drawn anew."""
    hubs = rng.choice((1, 2))
    services = [slot.name for slot in slots_of((), plan.agents, 0, hubs) if slot.kind == HUB]
    only, count = [kind for kind in kinds if kind != ORDERS], rng.randint(4, 16) if ORDERS not in kinds else _MANY
    faults = _faults(rng, [HUB], services, plan.busy_s, only, HUB_KINDS)
    clusters = [cluster.name for cluster in plan.clusters]
    return plan.model_copy(
        update={
            "fenced": True,
            "hubs": hubs,
            "orders": tuple(orders(rng, clusters, plan.busy_s, count)),
            "faults": tuple(sorted([*plan.faults, *faults], key=lambda fault: fault.at_s)),
        }
    )


def _cut_offs(seed: int, busy: float, names: list[str]) -> list[Fault]:
    """Now and then a cluster is cut off until all is healed: long enough for its lease to be over."""
    rng = random.Random(f"{seed}/cut-off")
    if rng.random() > _CUT_OFF:
        return []
    return [Fault(at_s=rng.uniform(5, busy / 3), kind="cut_off", target=rng.choice(names), seconds=busy)]


_ACTIONS = ("add_nodes", "remove_node", "fail_node", "delete_deployment", "delete_pod", "create_foreign")


def _actions(rng: random.Random, names: list[str], busy: float) -> list[Action]:
    count = rng.choice((0, 0, 1, 2, 4))
    return [
        Action(
            at_s=rng.uniform(5, busy), what=rng.choice(_ACTIONS), cluster=rng.choice(names), number=rng.randint(1, 3)
        )
        for _ in range(count)
    ]


def _faults(
    rng: random.Random,
    names: list[str],
    services: list[str],
    busy: float,
    only: Sequence[str] = (),
    drawn: Sequence[str] = KINDS,
) -> list[Fault]:
    kinds = only or rng.sample(drawn, min(len(drawn), rng.choice((0, 1, 2, 3, 5, 8))))
    counts = (3, 5, 8) if only else (1, 2, 3, 5)
    return sorted(
        (
            fault
            for kind in kinds
            for _ in range(1 if kind in CLUSTER_FAULTS else rng.choice(counts))
            for fault in _befall(rng, kind, names, services, busy)
        ),
        key=lambda fault: fault.at_s,
    )


def _befall(rng: random.Random, kind: str, names: list[str], services: list[str], busy: float) -> Iterator[Fault]:
    """One fault, or two together."""
    kind, _, other = kind.partition("+")
    first = _fault(rng, kind, names, services, busy)
    yield first
    if other:
        # The same service; or the same cluster, or an agent of that.
        clusters = [first.target] if first.target in names else names
        agents = [name for name in services if name.rpartition("-")[2] in {first.target, "all"}]
        second = _fault(rng, other, clusters, [first.target] if first.target in services else agents, busy)
        begins = first.at_s + rng.random() * first.seconds
        lasts = first.at_s + first.seconds - begins + second.seconds
        yield second.model_copy(update={"at_s": begins, "seconds": lasts})


def _fault(rng: random.Random, kind: str, names: list[str], services: list[str], busy: float) -> Fault:
    kind, _, whom = kind.partition(":")
    befallen = [name for name in services if name.startswith(whom)]
    target = (
        rng.choice(names)
        if kind in (*API_FAULTS, *CLUSTER_FAULTS)
        else ""
        if kind in WORLD_FAULTS
        else rng.choice(befallen)
    )
    latest = busy / 3 if kind in CLUSTER_FAULTS else busy
    return Fault(
        at_s=rng.uniform(1, latest), kind=kind, target=target, seconds=_span(rng, kind), number=_number(rng, kind)
    )


def _span(rng: random.Random, kind: str) -> float:
    """How long it lasts: mostly seconds, sometimes long enough for every lease and patience to run out."""
    if kind in {"kill", "pause", "cut_log", "cut_api", "cut_store"}:
        return rng.choice((rng.uniform(0.1, 3), rng.uniform(2, 10), rng.uniform(10, 40)))
    if kind == "outage":
        return rng.uniform(35, 70)
    if kind in CLUSTER_FAULTS:
        # Until all is healed: more of them at once, and it is the scheduler that is cut off.
        return 120.0
    return rng.uniform(1, 30)


def _number(rng: random.Random, kind: str) -> int:
    match kind:
        case "kill_at_effect":
            return rng.randint(1, 200)
        case "jump_clock":
            return rng.choice((-1, 1)) * rng.choice((200, 5_000, 60_000, 3_600_000))
        case "slow_log" | "slow_api":
            return rng.choice((20, 200, 1_500, 4_000))
        case "lossy_log" | "lossy_appends":
            return rng.choice((5, 20, 60))
        case "throttle_api" | "fail_api" | "lose_api_calls":
            return rng.choice((10, 40, 90))
    return rng.randint(0, 2)
