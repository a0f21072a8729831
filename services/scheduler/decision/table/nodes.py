"""The node table: every node of every cluster, as a structure of arrays.

Rows come in blocks of `BLOCK`, and all rows of a block belong to one domain: a zone of a cluster. So what is true of a
whole domain (the cluster takes no replicas, so many replicas are there already) is said once for each block, and the
cheapest node of the fleet is found among the cheapest of each block.

Amounts are whole numbers in 64 bits (cpu in thousandths, GPUs in thousandths of a device, memory in bytes): sums
do not depend on the order of what was added, and what was taken is given back exactly. `free` is negative where
a cluster overcommitted a node without us.

Invariants: a row that is not `alive` has nothing on it; every change of a row is in a change log, so that whoever
keeps something derived from rows (`profiles`) renews only what changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from services.scheduler.decision.table.arrays import BLOCK, BoolArray, FloatArray, IntArray, Rows, grown
from services.scheduler.decision.table.classes import NodeClasses
from services.scheduler.decision.table.devices import DeviceArray, DeviceTable
from services.scheduler.decision.table.images import ImageTable
from services.scheduler.decision.table.ports import PortTable
from services.scheduler.decision.table.requests import MAX_AMOUNT, Columns, Request
from services.scheduler.decision.table.volumes import VolumeTable
from shared.model.pods import WHOLE_DEVICE
from shared.model.taints import Taint

CPU, MEMORY = 0, 1


class ChangeLog:
    """Rows in the order in which they changed. What is too old is dropped: a reader behind it starts anew."""

    __slots__ = ("_base", "_room", "_rows", "end")

    def __init__(self) -> None:
        self._rows: Rows = np.zeros(1024, np.intp)
        self._base = 0
        # The position at which the array is full.
        self._room = len(self._rows)
        # The position of the next change.
        self.end = 0

    def add(self, row: int, keep: int) -> None:
        """`keep` of the newest changes, at least, stay known."""
        if self.end == self._room:
            self._make_room(keep)
        self._rows[self.end - self._base] = row
        self.end += 1

    def extend(self, count: int, keep: int) -> tuple[Rows, int]:
        """The array with room for so many more, which the caller writes before it moves `end`; and the position of its
        first. `keep` as for `add`.
        """
        if self._room - self.end < count:
            self._make_room(max(keep, count))
        return self._rows, self._base

    def _make_room(self, keep: int) -> None:
        known = self.end - self._base
        kept = self._rows[max(0, known - keep) : known]
        self._base = self.end - len(kept)
        self._rows = grown(kept, (4 * keep + 1024,))
        self._room = self._base + len(self._rows)

    def since(self, position: int) -> Rows | None:
        """The rows from `position` on, repeats included; None where they are no longer known."""
        return self._rows[position - self._base : self.end - self._base] if position >= self._base else None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What is known of a node apart from what runs on it. `allocatable` counts GPUs in devices; `images` are sizes by
    name, None where nobody asks for them.
    """

    cluster: str
    cluster_index: int
    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    allocatable: Mapping[str, int]
    price: float
    zone: str = ""
    ready: bool = True
    unschedulable: bool = False
    images: Mapping[str, int] | None = None


class NodeTable:
    """See the module. Every array has an entry for each row, those named `block_` one for each block."""

    def __init__(self, gpu_resource: str) -> None:
        self.columns = Columns(gpu_resource)
        self.classes = NodeClasses()
        self.devices = DeviceTable()
        self.ports = PortTable()
        self.images = ImageTable()
        self.volumes = VolumeTable()
        self.usage_log = ChangeLog()
        self.facts_log = ChangeLog()
        # Rises whenever room may have appeared: then what waits is worth another look.
        self.freed = 0
        # Rises when a block goes to another domain.
        self.layout = 0
        self.names: list[str] = []
        self.count = 0
        self.rows = 0
        self.allocatable: IntArray = np.zeros((0, self.columns.width), np.int64)
        # Allocatable cpu and memory once more, and what fractions of them are divided by, which is never zero.
        self.native: FloatArray = np.zeros((0, 4), np.float64)
        self.free: IntArray = np.zeros((0, self.columns.width), np.int64)
        self.alive: BoolArray = np.zeros(0, np.bool_)
        self.ready: BoolArray = np.zeros(0, np.bool_)
        self.unschedulable: BoolArray = np.zeros(0, np.bool_)
        self.price: FloatArray = np.zeros(0, np.float64)
        self.load: FloatArray = np.zeros(0, np.float64)
        self.order: FloatArray = np.zeros(0, np.float64)
        self.node_class: Rows = np.zeros(0, np.intp)
        self.block_cluster: Rows = np.zeros(0, np.intp)
        self.block_domain: Rows = np.zeros(0, np.intp)
        self.domain_cluster: Rows = np.zeros(0, np.intp)
        self._domains: dict[tuple[int, str], int] = {}
        self._spare_rows: dict[int, list[int]] = {}
        self._live_rows: list[int] = []
        self._spare_blocks: list[int] = []
        self._prices: dict[float, int] = {}
        # The highest price of any node, by which prices are divided; 1 where all are free.
        self.price_scale = 1.0

    @property
    def usage(self) -> tuple[IntArray, IntArray, FloatArray, DeviceArray]:
        """What the kernel reads of each row."""
        return self.free, self.allocatable, self.native, self.devices.free

    @property
    def blocks(self) -> int:
        return len(self.block_cluster)

    @property
    def domains(self) -> int:
        return len(self._domains)

    @property
    def clusters_with_domains(self) -> int:
        """One more than the highest index of a cluster that ever had a node."""
        return int(self.domain_cluster.max()) + 1 if self._domains else 0

    def domain_of(self, row: int) -> int:
        return self.block_domain.item(row // BLOCK)

    def cluster_of(self, row: int) -> int:
        return self.block_cluster.item(row // BLOCK)

    def add(self, facts: NodeFacts) -> int:
        """A row for a new node, with nothing on it."""
        self._ensure_width(facts.allocatable)
        row = self._take_row(facts)
        self.names[row] = facts.name
        self.order[row] = stable_order(facts.cluster, facts.name)
        self.alive[row] = True
        self.count += 1
        self.devices.install(row, self._gpus(facts))
        self.node_class[row] = self.classes.join(facts.name, facts.labels, facts.taints)
        self.price[row] = facts.price
        self._count_price(facts.price, 1)
        self._put_images(row, facts)
        self._write(row, facts)
        return row

    def accepts(self, row: int, facts: NodeFacts) -> bool:
        """Whether `update` can take these facts: same domain, same devices."""
        domain = self._domains.get((facts.cluster_index, facts.zone))
        same_devices = self.devices.count(row) == self._gpus(facts)
        return same_devices and bool(self.block_domain[row // BLOCK] == domain)

    def update(self, row: int, facts: NodeFacts) -> None:
        """New facts of a node; what is on it stays. Facts that are as before change nothing."""
        self._ensure_width(facts.allocatable)
        former = int(self.node_class[row])
        self.node_class[row] = self.classes.join(facts.name, facts.labels, facts.taints)
        self.classes.leave(former)
        self.set_price(row, facts.price)
        self._put_images(row, facts)
        if former != self.node_class[row] or self._differs(row, facts):
            self._write(row, facts)

    def set_price(self, row: int, price: float) -> None:
        if self.price[row] != price:
            if price < self.price[row]:
                # What waits since it must not cost more may have a place now.
                self.freed += 1
            self._count_price(float(self.price[row]), -1)
            self._count_price(price, 1)
            self.price[row] = price
            self.facts_log.add(row, self.rows)

    def remove(self, row: int) -> None:
        """Gives the row back. What was on it has been discharged before."""
        self.devices.install(row, 0)
        self.images.remove(row)
        self.classes.leave(int(self.node_class[row]))
        self._count_price(float(self.price[row]), -1)
        self.alive[row] = self.ready[row] = False
        self.allocatable[row] = self.free[row] = 0
        self.load[row] = 0.0
        self.names[row] = ""
        self.count -= 1
        self.facts_log.add(row, self.rows)
        self._give_row(row)

    def set_load(self, row: int, load: float) -> None:
        """Measured load as a fraction, to the hundredth, so that noise renews nothing."""
        load = round(min(max(load, 0.0), 1.0), 2)
        if self.load[row] != load:
            self.load[row] = load
            self.facts_log.add(row, self.rows)

    def charge(self, row: int, request: Request) -> tuple[int, ...]:
        """Takes what a pod asks for; returns the GPUs that it has, for `discharge`."""
        vector = request.vector
        if request.missing:
            # A pod that runs, with a resource that its node does not report: what is charged must have a column.
            self._ensure_width(dict(request.amounts))
            vector = request.vector
        free = self.free[row]
        np.subtract(free, vector, out=free)
        self.usage_log.add(row, self.rows)
        if request.ports:
            self.ports.take(row, request.ports)
        return self.devices.take(row, request.devices, request.milli) if request.devices else ()

    def discharge(self, row: int, request: Request, devices: tuple[int, ...]) -> None:
        free = self.free[row]
        np.add(free, request.vector, out=free)
        self.usage_log.add(row, self.rows)
        self.freed += 1
        if request.ports:
            self.ports.give_back(row, request.ports)
        if devices:
            self.devices.give_back(row, devices, request.milli)

    def lift(self, row: int, request: Request, devices: tuple[int, ...]) -> None:
        """What a pod takes is free for a moment, until `put_back`: to see what would fit then. It is no news for what
        waits, as `discharge` is.
        """
        freed = self.freed
        self.discharge(row, request, devices)
        self.freed = freed

    def put_back(self, row: int, request: Request, devices: tuple[int, ...]) -> None:
        """The pod has again what `lift` took from it, the same devices."""
        free = self.free[row]
        np.subtract(free, request.vector, out=free)
        self.usage_log.add(row, self.rows)
        if request.ports:
            self.ports.take(row, request.ports)
        if devices:
            self.devices.take_again(row, devices, request.milli)

    def _differs(self, row: int, facts: NodeFacts) -> bool:
        state = (bool(self.ready[row]), bool(self.unschedulable[row]))
        same_amounts = np.array_equal(self.allocatable[row], self._vector(facts))
        return state != (facts.ready, facts.unschedulable) or not same_amounts

    def _vector(self, facts: NodeFacts) -> IntArray:
        vector = np.zeros(self.columns.width, np.int64)
        for name, amount in facts.allocatable.items():
            unit = WHOLE_DEVICE if name == self.columns.gpu_resource else 1
            vector[self.columns.index[name]] = min(amount * unit, MAX_AMOUNT)
        return vector

    def _write(self, row: int, facts: NodeFacts) -> None:
        vector = self._vector(facts)
        self.free[row] += vector - self.allocatable[row]
        self.allocatable[row] = vector
        self.native[row] = (vector[CPU], vector[MEMORY], max(vector[CPU], 1), max(vector[MEMORY], 1))
        self.ready[row] = facts.ready
        self.unschedulable[row] = facts.unschedulable
        self.freed += 1
        self.facts_log.add(row, self.rows)

    def _put_images(self, row: int, facts: NodeFacts) -> None:
        if facts.images is not None:
            self.images.put(row, facts.cluster_index, facts.images)

    def _gpus(self, facts: NodeFacts) -> int:
        return facts.allocatable.get(self.columns.gpu_resource, 0)

    def _count_price(self, price: float, nodes: int) -> None:
        left = self._prices.get(price, 0) + nodes
        if left:
            self._prices[price] = left
        else:
            del self._prices[price]
        self.price_scale = max(self._prices, default=0.0) or 1.0

    def _ensure_width(self, amounts: Mapping[str, int]) -> None:
        self.columns.ensure(amounts)
        if self.columns.width != self.free.shape[1]:
            shape = (self.rows, self.columns.width)
            self.allocatable, self.free = grown(self.allocatable, shape), grown(self.free, shape)

    def _take_row(self, facts: NodeFacts) -> int:
        key = (facts.cluster_index, facts.zone)
        domain = self._domains.get(key)
        if domain is None:
            domain = self._domains[key] = len(self._domains)
            self.domain_cluster = np.append(self.domain_cluster, facts.cluster_index)
        spare = self._spare_rows.setdefault(domain, [])
        if not spare:
            block = self._take_block(domain, facts.cluster_index)
            spare.extend(range((block + 1) * BLOCK - 1, block * BLOCK - 1, -1))
        row = spare.pop()
        self._live_rows[row // BLOCK] += 1
        return row

    def _give_row(self, row: int) -> None:
        """The row serves the next node of its domain; a block without nodes serves any domain."""
        block = row // BLOCK
        domain = int(self.block_domain[block])
        self._spare_rows[domain].append(row)
        self._live_rows[block] -= 1
        if not self._live_rows[block]:
            self._spare_rows[domain] = [spare for spare in self._spare_rows[domain] if spare // BLOCK != block]
            self._spare_blocks.append(block)

    def _take_block(self, domain: int, cluster: int) -> int:
        if not self._spare_blocks:
            self._grow(max(1, self.blocks))
        block = self._spare_blocks.pop()
        self.block_cluster[block], self.block_domain[block] = cluster, domain
        self.layout += 1
        return block

    def _grow(self, blocks: int) -> None:
        before, after = self.blocks, self.blocks + blocks
        rows, width = after * BLOCK, self.columns.width
        self.rows = rows
        self.allocatable, self.free = grown(self.allocatable, (rows, width)), grown(self.free, (rows, width))
        self.native = grown(self.native, (rows, 4), 1)
        self.alive, self.ready = grown(self.alive, (rows,)), grown(self.ready, (rows,))
        self.unschedulable = grown(self.unschedulable, (rows,))
        self.price, self.load = grown(self.price, (rows,)), grown(self.load, (rows,))
        self.order, self.node_class = grown(self.order, (rows,)), grown(self.node_class, (rows,))
        self.block_cluster, self.block_domain = grown(self.block_cluster, (after,)), grown(self.block_domain, (after,))
        self.devices.grow(rows)
        self.names.extend([""] * (blocks * BLOCK))
        self._live_rows.extend([0] * blocks)
        self._spare_blocks.extend(range(after - 1, before - 1, -1))


def stable_order(cluster: str, name: str) -> float:
    """A number in [0, 1) that depends on the names alone: it decides among nodes of equal cost.

    So a choice does not depend on the order in which nodes became known.
    """
    digest = blake2b(f"{cluster}/{name}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48
