"""What workloads may cost: as many replicas have a place as can be paid, and none that cannot."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.decision.remedies import remedies
from services.scheduler.decision.state import SchedulerState
from shared.events.v1.clusters import ClusterDeclared
from shared.events.v1.decisions import WorkloadPlaced
from tests.scheduling import World, image, workload

Json = dict[str, Any]
UNIT = 1_000_000_000
# Cores, and the price of an hour.
NODES = st.lists(st.tuples(st.integers(1, 8), st.sampled_from([0.0, 0.1, 0.3, 0.35, 1.0, 4.0])), min_size=1, max_size=8)
LIMITS = st.sampled_from([0, 0.05, 0.1, 0.3, 0.7, 1, 2.5, 10])


def priced(price: float) -> dict[str, str]:
    return {"flotilla.dev/price-per-hour": str(price)}


def fleet(nodes: list[tuple[int, float]]) -> World:
    world = World()
    world.cluster("east")
    world.cluster("west")
    for index, (cores, price) in enumerate(nodes):
        world.node(("east", "west")[index % 2], f"n{index}", cpu=str(cores), memory="1Ti", labels=priced(price))
    return world


def replica_price(cores: int, price: float, asked: int) -> int:
    return int(price * (asked / cores) * UNIT)


@given(NODES, LIMITS, st.integers(0, 20), st.integers(1, 3), st.sampled_from(["node", "cluster"]))
def test_as_many_have_a_place_as_can_be_paid(
    nodes: list[tuple[int, float]], limit: float, replicas: int, cores: int, binding: str
) -> None:
    world = fleet(nodes)
    terms = {"maxPricePerHour": limit, "binding": binding}
    (decision,) = world.apply(workload("web", image(replicas=replicas, cpu=str(cores)), placement=terms))
    assert isinstance(decision, WorkloadPlaced)
    slots = sorted(
        cost for have, price in nodes for cost in [replica_price(have, price, cores)] * (have // cores) if have >= cores
    )
    most, left = 0, round(limit * UNIT)
    for cost in slots[:replicas]:
        left -= cost
        most += left >= 0
        if left < 0:
            break
    (outcome,) = decision.pod_sets
    assert outcome.placed == most
    assert (outcome.price_per_hour or 0.0) <= limit
    if most < replicas:
        assert outcome.reason == ("OverBudget" if most < len(slots) else "Unschedulable")
        found = {item.text.partition(" to ")[0]: item for item in remedies(world.state, "default/web", world.now)}
        # What is placed stays where it is.
        free, paid = slots.copy(), round((outcome.price_per_hour or 0.0) * UNIT)
        for share in outcome.shares:
            for node in share.nodes:
                free.remove(replica_price(*nodes[int(node[1:])], cores))
        enough = (paid + sum(free[: replicas - most])) / UNIT if len(slots) >= replicas else None
        name = "raise placement.maxPricePerHour"
        assert (name in found) == (enough is not None)
        if enough is not None:
            raised = found[name].workload.placement.max_price_per_hour
            # To the ten-thousandth.
            assert raised is not None
            assert enough - 1e-6 <= raised <= enough + 1.1e-4


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 9), LIMITS),
        st.tuples(st.just("price"), st.integers(0, 7), st.sampled_from([0.1, 0.35, 2.0])),
        st.tuples(st.just("cluster price"), st.integers(0, 1), st.sampled_from([0.0, 0.1, 2.0])),
        st.tuples(st.just("gone"), st.integers(0, 7), st.just(0)),
        st.tuples(st.just("runs"), st.integers(0, 7), st.integers(0, 7)),
        st.tuples(st.just("other"), st.integers(0, 3), st.integers(0, 9)),
        st.tuples(st.just("pending"), st.just(0), st.just(0)),
    ),
    min_size=1,
    max_size=14,
)


class Told:
    """What the world knows of one workload's cost, by its own account."""

    def __init__(self, world: World, nodes: list[tuple[int, float]]) -> None:
        self.world = world
        self.nodes = {("east", "west")[index % 2] + f"/n{index}": item for index, item in enumerate(nodes)}
        self.labelled = dict.fromkeys(self.nodes, True)
        self.pods: dict[str, str] = {}

    def step(self, kind: str, first: int, second: float) -> None:
        world, cluster = self.world, ("east", "west")[first % 2]
        where = f"{cluster}/n{first}"
        if kind == "price" and where in self.nodes:
            cores = self.nodes[where][0]
            self.nodes[where] = (cores, second)
            self.labelled[where] = True
            world.node(cluster, f"n{first}", cpu=str(cores), memory="1Ti", labels=priced(second))
        elif kind == "gone" and where in self.nodes:
            del self.nodes[where]
            for pod, node in list(self.pods.items()):
                if node == where:
                    del self.pods[pod]
                    world.no_pod(cluster, pod)
            world.no_node(cluster, f"n{first}")
        elif kind == "cluster price":
            world.state.declare_cluster(cluster, ClusterDeclared(name=cluster, price_per_hour=second))
        elif kind == "runs" and where in self.nodes and f"p{first}" not in self.pods and self.surplus(cluster) < 0:
            # The cluster's own scheduler binds a pod where it likes.
            self.pods[f"p{first}"] = where
            world.pod(cluster, f"p{first}", node=f"n{first}", of="web/web")

    def surplus(self, cluster: str) -> int:
        """By how many the pods that run in a cluster are more than they are to be."""
        record = self.world.state.find("default/web")
        shares = record.placed.pod_sets[0].shares if record is not None else ()
        wanted = sum(share.replicas for share in shares if share.cluster == cluster)
        return sum(where.startswith(cluster) for where in self.pods.values()) - wanted

    def obey(self) -> None:
        """Clusters delete the pods that are too many."""
        for cluster in ("east", "west"):
            while self.surplus(cluster) > 0:
                pod = max(name for name, where in self.pods.items() if where.startswith(cluster))
                del self.pods[pod]
                self.world.no_pod(cluster, pod)

    def cost(self, state: SchedulerState) -> int:
        """Of pods that were seen at most as many as count, and of room that is held."""
        record = state.find("default/web")
        total = 0
        for share in record.placed.pod_sets[0].shares if record is not None else ():
            seen = sorted(
                (self.price(node) for node in self.pods.values() if node.startswith(share.cluster)), reverse=True
            )
            held = [
                self.price(f"{slot.cluster}/{slot.name}")
                for slot in state.fleet.slots.of_cluster(share.cluster)
                for hold in slot.holds
                if hold.owner is not None and hold.owner.key.workload == "default/web"
            ]
            total += sum(seen[: share.replicas - len(held)]) + sum(held)
        return total

    def price(self, where: str) -> int:
        known = self.nodes.get(where)
        return replica_price(*known, 1) if known is not None else 0


@given(NODES, STEPS)
def test_nothing_is_placed_beyond_the_limit(nodes: list[tuple[int, float]], steps: list[tuple[Any, ...]]) -> None:
    """With pods that clusters bind elsewhere, prices that change, and nodes that go."""
    world = fleet(nodes)
    told = Told(world, nodes)
    for kind, first, second in steps:
        known = len(world.journal)
        before = world.state.find("default/web")
        placed = before.placed.pod_sets[0].placed if before is not None else 0
        if kind not in ("ask", "other", "pending"):
            told.step(kind, first, second)
        spent = round(sum(world.state.price_of(before).values()) * UNIT) if before is not None else 0
        if kind == "ask":
            terms = {"maxPricePerHour": second, "binding": "cluster"}
            world.apply(workload("web", image(replicas=first), placement=terms))
        elif kind == "other":
            world.apply(workload(f"other{first}", image(replicas=int(second)), placement={"binding": "node"}))
        elif kind == "pending":
            world.pending()
        for decision in world.journal[known:]:
            if isinstance(decision, WorkloadPlaced) and decision.workload.name == "web":
                (outcome,) = decision.pod_sets
                cost = told.cost(world.state)
                said = round((outcome.price_per_hour or 0.0) * UNIT)
                # Where pods run elsewhere, which of the other nodes hold room is seen when a decision is folded.
                assert said == cost or told.pods
                limit = decision.workload.placement.max_price_per_hour
                assert limit is not None
                if outcome.placed > placed:
                    # What costs nothing may always come.
                    assert said <= max(round(limit * UNIT), spent)
                # A lower limit, or a higher price, takes nothing away.
                assert outcome.placed >= min(placed, outcome.desired)
        told.obey()
