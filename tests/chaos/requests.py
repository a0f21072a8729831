"""The stream of requests, and what each workload should end as: a pure function of the seed.

A model of what users asked for, no more: what is expected of a workload follows from its last valid request alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from services.cli.fleet.requesting import request_record
from shared.events.v1.requests import WorkloadRequested
from shared.events.v1.status import Phase
from shared.ports.event_log import NewRecord
from tests.chaos.kinds import BORROWED, BORROWING, BOUND, GUARANTEED, PLAIN, UNBOUND, WEIGHTS, kind_of, workload
from tests.e2e.malformed import Malformed, generate

NAMESPACE: Final = "chaos"
POD_SET: Final = "main"
_LIVE: Final = 36
_MALFORMED: Final = 200
_MAX_REPLICAS: Final = 4
_GIANTS: Final = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """What the last valid request of a workload asks for. `phases` are the ends that fit it.

    Of what is `open` as many replicas run as find room. `cluster` is the only eligible one, if there is one; `home` the
    one that is best for some kinds.
    """

    key: str
    phases: frozenset[Phase]
    replicas: int = 0
    image: str = ""
    binding: str = "cluster"
    memory: str = "64Mi"
    cpu: str = "100m"
    open: bool = False
    cluster: str = ""
    home: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to publish, and what it leaves its workload to be."""

    what: str
    record: NewRecord
    wish: Wish


_RUNNING: Final = frozenset({Phase.RUNNING})
_PENDING: Final = frozenset({Phase.PENDING})
_REJECTED: Final = frozenset({Phase.REJECTED})
# A deletion that is published twice finds nothing the second time, and is told so.
_DELETED: Final = frozenset({Phase.DELETED, Phase.REJECTED})


@dataclass(slots=True)
class Requests:
    """Yields requests without end; `wishes` is what is wanted as of the last one that was yielded.

    `tight` is the cluster of what borrows and what is guaranteed; where it is empty there are none of these. `home` is
    the cluster that some kinds prefer. The first requests are for one workload of each kind.
    """

    seed: int
    live: int = _LIVE
    tight: str = ""
    home: str = ""
    wishes: dict[str, Wish] = field(default_factory=dict)

    def stream(self) -> Iterator[Asked]:
        rng = random.Random(self.seed)
        malformed = generate(_MALFORMED)
        number = 0
        if self.tight:
            for asked in (self._borrowing(), self._guaranteed(1)):
                self.wishes[asked.wish.key] = asked.wish
                yield asked
        for kind in WEIGHTS:
            number += 1
            asked = self._create(rng, number, kind)
            self.wishes[asked.wish.key] = asked.wish
            yield asked
        while True:
            number += 1
            asked = self._next(rng, number, malformed)
            self.wishes[asked.wish.key] = asked.wish
            yield asked

    def _next(self, rng: random.Random, number: int, malformed: list[Malformed]) -> Asked:
        running = sorted(
            key
            for key, wish in self.wishes.items()
            if wish.phases & {Phase.RUNNING, Phase.PENDING} and not wish.cluster
        )
        if rng.random() < 0.08:
            return _malformed(rng.choice(malformed), number)
        if self.tight and rng.random() < 0.05:
            return self._guaranteed(rng.randint(1, 3))
        if not running or len(running) < self.live * rng.uniform(0.5, 1.0):
            return self._create(rng, number)
        wish = self.wishes[rng.choice(running)]
        if len(running) >= self.live or rng.random() < 0.25:
            return _delete(wish)
        if rng.random() < 0.12:
            return _invalid_change(wish)
        return _change(rng, wish, number)

    def _create(self, rng: random.Random, number: int, kind: str = "") -> Asked:
        gone = sorted(key for key, wish in self.wishes.items() if wish.phases == _DELETED)
        kind = kind or rng.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
        key = rng.choice(gone) if gone and rng.random() < 0.3 else f"{NAMESPACE}/{kind}{number:04d}"
        kind = kind_of(key)
        giants = sum(1 for wish in self.wishes.values() if wish.phases == _PENDING)
        giant = kind == PLAIN and giants < _GIANTS and rng.random() < 0.15
        bindings = ("node",) if kind in BOUND else ("cluster",) if kind in UNBOUND else ("cluster", "node")
        wish = Wish(
            key,
            _PENDING if giant else _RUNNING,
            replicas=1 if giant else rng.randint(1, _MAX_REPLICAS),
            image="nginx:1",
            binding=rng.choice(bindings),
            memory="4Ti" if giant else "64Mi",
            home=self.home,
        )
        # `create` is refused while the deletion of an earlier one is under way, `apply` is not.
        return Asked("create", _request("apply" if key in self.wishes else "create", wish), wish)

    def _borrowing(self) -> Asked:
        phases = frozenset({Phase.RUNNING, Phase.PENDING, Phase.DEGRADED, Phase.APPLIED, Phase.SCHEDULED})
        return self._tight(BORROWING, Wish("", phases, replicas=BORROWED, open=True))

    def _guaranteed(self, replicas: int) -> Asked:
        return self._tight(GUARANTEED, Wish("", _RUNNING, replicas=replicas))

    def _tight(self, kind: str, wish: Wish) -> Asked:
        """Whole cores, bound by Flotilla in the one cluster."""
        wish = replace(wish, key=f"{NAMESPACE}/{kind}", image="nginx:1", binding="node", cpu="1", cluster=self.tight)
        return Asked(kind, _request("apply", wish), wish)


def _change(rng: random.Random, wish: Wish, number: int) -> Asked:
    """Another number of replicas, another image, or both."""
    what = rng.choice(("scale", "change", "scale and change"))
    changed = wish
    if "scale" in what and wish.phases == _RUNNING:
        changed = replace(changed, replicas=rng.randint(1, _MAX_REPLICAS))
    if "change" in what:
        changed = replace(changed, image=f"nginx:{number}")
    return Asked(what, _request(rng.choice(("apply", "change")), changed), changed)


def _delete(wish: Wish) -> Asked:
    return Asked("delete", _request("delete", wish), Wish(wish.key, _DELETED))


def _invalid_change(wish: Wish) -> Asked:
    """Refused, with what is wrong; the workload stays what it was."""
    record = _request("apply", wish)
    return Asked("malformed change", record._replace(value=(record.value or b"").replace(b'"100m"', b'"many"')), wish)


def _malformed(wrong: Malformed, number: int) -> Asked:
    record = wrong.record(f"m{number:04d}")
    return Asked(f"malformed: {wrong.what}", record, Wish((record.key or b"").decode(), _REJECTED))


def _request(operation: str, wish: Wish) -> NewRecord:
    namespace, _, name = wish.key.partition("/")
    body: dict[str, Any] = {"namespace": namespace, "name": name}
    if operation != "delete":
        resources: Mapping[str, Any] = {"requests": {"cpu": wish.cpu, "memory": wish.memory}}
        pods = {"name": POD_SET, "replicas": wish.replicas, "image": wish.image, "resources": resources}
        body = workload(wish.key, pods, wish.binding, cluster=wish.cluster, home=wish.home)
    request = WorkloadRequested.model_validate({"operation": operation, "workload": body})
    record, _, _ = request_record(request, source="chaos")
    return record
