"""`fleet.decisions`: the journal of a cell, the one place where anything is decided.

A record is one append, and that append is the commit. `EpochStarted(n)` makes everything void that an epoch
before n appends behind it; of two markers with one epoch the first counts. `DecisionsMade` holds a batch; each
decision states the whole outcome for its workload, so that folding is replacing. An empty batch renews the
leader's lease. The generation of a decision is the offset of its record.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.events.v1.leases import LeaseGranted
from shared.events.v1.policies import is_empty
from shared.events.v1.workloads import FieldError, Workload
from shared.model.base import Value

# Next offset to read, by topic and by partition.
Positions = dict[str, dict[int, int]]


class EpochStarted(Value):
    cell: str
    epoch: int = Field(ge=1)
    leader: str


class RequestRef(Value):
    """Which request led to this: its event id, when it was published, and where it stands."""

    id: str
    published_at: int = Field(description="Unix milliseconds")
    position: str = Field(default="", description="topic/partition/offset")
    traceparent: str = Field(
        default="", description="W3C trace context of the request, carried to what follows from it"
    )


class ClusterShare(Value):
    """The replicas of one pod set in one cluster.

    `nodes` has a node for each replica: where Flotilla binds it (`binding: node`), or where room is reserved
    for it until its pod is observed (`binding: cluster`). `ordinals` number the pods of `binding: node`. `overrides`
    are those of the workload's terms that apply here, in their order: by names and labels of the cluster as they were
    when this was decided. The last `leaving` of the replicas are replaced elsewhere, and stay until others are ready.
    """

    cluster: str
    replicas: int = Field(ge=0)
    nodes: tuple[str, ...] = ()
    ordinals: tuple[int, ...] = ()
    overrides: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    leaving: int | None = Field(default=None, ge=1, description="replicas that count no more: others replace them")

    @property
    def kept(self) -> int:
        """The replicas that count."""
        return self.replicas - (self.leaving or 0)


class Choice(Value):
    """Why a replica goes to a node: there it costs least. The runner-up is where it would cost least of all others.

    `terms` has by name the weight of a cost term, its value in [0, 1] on the node, and that on the runner-up; those
    without weight, and those that are zero on both, are left out. A cost is the sum of the terms times their weights.
    `between_pods` is the sum of preferred rules between pods, weighted already.
    """

    cluster: str
    node: str
    cost: float = Field(description="less is better")
    runner_up_cluster: str = Field(default="", exclude_if=is_empty)
    runner_up: str = Field(default="", description="empty if no other node passed the filters", exclude_if=is_empty)
    runner_up_cost: float | None = None
    terms: dict[str, tuple[float, float, float]] = Field(default_factory=dict)


class Refusal(Value):
    """Nodes of one class in one cluster that one filter refused first.

    A filter of the cluster as a whole is `cluster`. `short` is what the node that lacks least, `closest`, lacks of each
    resource: cpu and GPUs in thousandths, all else in its own unit.
    """

    cluster: str
    node_class: str = ""
    nodes: int = Field(ge=0)
    filter: str
    reason: str
    closest: str = Field(default="", exclude_if=is_empty)
    short: dict[str, int] = Field(default_factory=dict, exclude_if=is_empty)


class Displacement(Value):
    """Replicas that made room for others, told by either side: `workload` is the other one.

    The others are of a higher priority, or of `queue`, which took back what others had borrowed of its guarantee.
    """

    workload: str = Field(description="namespace/name")
    pod_set: str
    priority: int
    cluster: str
    node: str = Field(default="", exclude_if=is_empty)
    replicas: int = Field(ge=1)
    queue: str = Field(default="", exclude_if=is_empty, description="that of the others, where its guarantee decided")


class PodSetReasons(Value):
    """Why replicas are where they are, and why others wait, as it was when that was decided.

    `choices` has the first replica that a decision placed in each cluster, of the latest decision that placed any;
    `refusals` why the next replica found no node. All are bounded: `left_out` counts the groups of nodes that are not
    listed.
    """

    choices: tuple[Choice, ...] = Field(default=(), exclude_if=is_empty)
    refusals: tuple[Refusal, ...] = Field(default=(), exclude_if=is_empty)
    left_out: int = Field(default=0, exclude_if=is_empty)
    displaced: tuple[Displacement, ...] = Field(
        default=(), exclude_if=is_empty, description="what made room for the replicas that were placed last"
    )


class Rebalanced(Value):
    """The last replica that moved to a better place, by `placement.rebalance`, and why.

    It would have been placed there at that time, with its own room given back. Costs are as in `Choice`. While it is
    `moving` it counts among those that leave `fromCluster`, until its replacement is ready; `failed`: that was not
    ready in time, or its cluster had to be left, and the old one stayed.
    """

    reason: Literal["Rebalanced"] = "Rebalanced"
    state: Literal["moving", "moved", "failed"] = "moving"
    at: int = Field(description="Unix milliseconds")
    from_cluster: str
    from_node: str = Field(description="with binding cluster the one of its nodes where a replica costs least")
    cluster: str
    node: str
    cost_before: float
    cost: float
    gain: float
    minimum_gain: float
    by_terms: bool = Field(
        default=False,
        exclude_if=is_empty,
        description="an earlier tier, or a higher claim by weights, and not the cost",
    )
    arrived: dict[str, int] = Field(
        default_factory=dict,
        exclude_if=is_empty,
        description="when a replica last moved so to each cluster, in Unix milliseconds, while it has to stay for that",
    )


class Scaled(Value):
    """How many replicas the autoscaler wants, by which record of `fleet.scaling`."""

    replicas: int = Field(ge=0, description="as recommended; desired is within the bounds of the workload's scaling")
    position: str = Field(description="topic/partition/offset")


class ContainerRequested(Value):
    """What a container requests in place of what the workload states: cpu in thousandths, memory in bytes."""

    name: str
    requests: dict[str, int]
    limits: dict[str, int] = Field(default_factory=dict, exclude_if=is_empty, description="where it has any")


class Requested(Value):
    """What containers request by the workload's `vertical`, by which record of `fleet.scaling`: within its policy."""

    containers: tuple[ContainerRequested, ...]
    position: str = Field(description="topic/partition/offset")


class PodSetPlacement(Value):
    """The outcome for one pod set. Replicas in no share wait, for `reason` and `message`.

    `away` counts, by cluster, replicas that had to leave it and are to return; to those in `returning` some are on
    their way: what leaves other clusters then is replaced there.
    `follows` are the pod sets in whose clusters this one has its copies; commands name these before what needs them.
    `started` replicas of a gang have a place since they found it together: what is lost of them is replaced one by one.
    """

    name: str
    desired: int = Field(ge=0)
    shares: tuple[ClusterShare, ...] = ()
    reason: str = ""
    message: str = ""
    away: dict[str, int] = Field(default_factory=dict, exclude_if=is_empty)
    returning: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    follows: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    started: int | None = Field(default=None, ge=1, description="replicas of a gang that were placed together")
    price_per_hour: float | None = Field(
        default=None,
        description="what its replicas that count cost then; only of a workload with placement.maxPricePerHour",
    )
    preempted: tuple[Displacement, ...] = Field(
        default=(), exclude_if=is_empty, description="for whom replicas that wait now made room, the latest last"
    )
    why: PodSetReasons | None = Field(default=None, description="absent where no node was chosen")
    rebalanced: Rebalanced | None = Field(default=None, description="absent where no replica moved to a better place")
    scaled: Scaled | None = Field(default=None, description="absent as long as the workload's own replicas hold")
    requested: Requested | None = Field(default=None, description="absent as long as the workload's own requests hold")

    @property
    def placed(self) -> int:
        return sum(share.kept for share in self.shares)

    @property
    def leaving(self) -> int:
        return sum(share.leaving or 0 for share in self.shares)


class WorkloadPlaced(Value):
    """The workload as accepted, and where its replicas are to run.

    `withdrawn` are clusters that had a share before and have not yet confirmed that it is gone; `retired` are those
    that with this decision have, so that their commands end. With `deleting` there are no shares, and the workload ends
    when `withdrawn` has only clusters that left the fleet.
    """

    kind: Literal["placed"] = "placed"
    workload: Workload
    uid: str
    workload_generation: int = Field(ge=1, description="counts the accepted changes of the specification")
    request: RequestRef
    pod_sets: tuple[PodSetPlacement, ...] = ()
    withdrawn: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    deleting: bool = False
    unleased: tuple[str, ...] = Field(
        default=(),
        exclude_if=is_empty,
        description="of a workload that runs by leases, the clusters that may run it by a command of before that",
    )
    priority: int | None = Field(
        default=None, description="that of the workload's priority class, as it was when this was asked"
    )
    preempts: bool = Field(
        default=True, exclude_if=bool, description="whether its replicas may take the room of less important ones"
    )

    @property
    def rank(self) -> int:
        """The priority that counts."""
        return self.workload.priority if self.priority is None else self.priority

    @property
    def clusters(self) -> set[str]:
        """Those that have a share."""
        return {share.cluster for pod_set in self.pod_sets for share in pod_set.shares}

    @property
    def commanded(self) -> set[str]:
        """Those that have a command of it: to run their share, or to withdraw it."""
        return self.clusters | set(self.withdrawn)


class RequestRejected(Value):
    """A request that was refused. The workload, if it exists, stays as it is."""

    kind: Literal["rejected"] = "rejected"
    key: str = Field(description="namespace/name, or requests/<partition>-<offset> where none could be read")
    request: RequestRef
    errors: tuple[FieldError, ...] = Field(min_length=1)


class WorkloadForgotten(Value):
    """A deleted workload is gone from every cluster of the fleet.

    `retired` are the clusters that with this have confirmed it, so that their commands end. `unconfirmed` are clusters
    that left the fleet before they confirmed it: what they were last told, to withdraw the workload, stands, so that
    they do so should they ever return.
    """

    kind: Literal["forgotten"] = "forgotten"
    key: str
    uid: str
    unconfirmed: tuple[str, ...] = ()
    retired: tuple[str, ...] = Field(default=(), exclude_if=is_empty)


class ReadAhead(Value):
    """Requests that were decided behind the positions of `inputs`, since others before them wait their turn.

    A request of namespace n at offset o is decided if o is below `read` of its partition, and below what `waiting` has
    for n there, if it has anything. A reader that does not know this decides some requests again.
    """

    read: dict[int, int]
    waiting: dict[str, dict[int, int]] = Field(default_factory=dict)


Decision = Annotated[WorkloadPlaced | RequestRejected | WorkloadForgotten, Field(discriminator="kind")]


class InputRun(Value):
    """Records of one partition that were folded one after another: from `start` on, and before `end`.

    Of `fleet.requests` each was decided upon; of the journal itself, what it decided was folded, or the offsets of the
    leader's own decisions became known.
    """

    kind: Literal["run"] = "run"
    topic: str
    partition: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(ge=1)
    records: int | None = Field(
        default=None, ge=1, description="how many there were; absent if each offset had one: compaction leaves gaps"
    )
    at: int | None = Field(default=None, description="when, by the leader's clock: Unix milliseconds")
    unheard: bool = Field(
        default=False,
        description="nobody listened when they came: when they were written counts, if that is earlier than `at`",
        exclude_if=is_empty,
    )


class StateCall(Value):
    """A method of the scheduler's state that was called, with the arguments that are in no log."""

    kind: Literal["call"] = "call"
    method: str
    arguments: tuple[int | str, ...] = ()


Step = Annotated[InputRun | StateCall, Field(discriminator="kind")]


class Basis(Value):
    """All that was done to the leader's state since the last basis of its epoch, decisions included, in this order.

    The first of an epoch begins with an empty state. So whoever does the same comes to the same decisions: those of
    this entry, and of the entries before it that have no basis of their own.
    """

    steps: tuple[Step, ...] = ()
    whole: bool = Field(default=True, description="false where steps were left out, since they were too many")
    config: str = Field(description="hash of the configuration")
    state: str = Field(description="hashes of nodes, workloads and clusters behind the last step")


class DecisionsMade(Value):
    cell: str
    epoch: int = Field(ge=1)
    leader: str
    decided_at: int = Field(description="Unix milliseconds")
    inputs: Positions = Field(
        default_factory=dict, description="what had been consumed when this was decided; empty means as before"
    )
    ahead: ReadAhead | None = Field(default=None, description="of the requests, where `inputs` names them")
    decisions: tuple[Decision, ...] = ()
    leases: tuple[LeaseGranted, ...] = Field(
        default=(), exclude_if=is_empty, description="answers to executors, by all that was decided up to here"
    )
    basis: Basis | None = Field(
        default=None, description="from what this was decided, and what was before it; absent where a later entry says"
    )
    resigned: bool = Field(
        default=False, description="the leader stops behind this: a standby need not wait for its lease to end"
    )
