"""Leader election on a Lease of `coordination.k8s.io/v1`, with the semantics of client-go.

Source: k8s.io/client-go/tools/leaderelection. A candidate never compares clocks: it takes a lease to be expired when it
has seen no change in it for the lease's duration by its own monotonic time. A holder that could not renew within the
renew deadline has lost, which is before anybody else can take over. Between candidates that see the same expired lease
the API server decides, by the resource version that each of them read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from shared.model.identities import Resource

LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Terms:
    """`lease_s > renew_s > 1.2 * retry_s`, or a leader might live on beside its successor."""

    identity: str
    name: str
    namespace: str
    lease_s: int = 15
    renew_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.lease_s > self.renew_s > 1.2 * self.retry_s > 0:
            raise ValueError("the lease must last longer than the renew deadline, and that longer than 1.2 retries")


@dataclass(frozen=True, slots=True)
class Held:
    """What a lease says."""

    holder: str = ""
    duration_s: int = 0
    acquired_at: str = ""
    renewed_at: str = ""
    transitions: int = 0


class Election:
    """One candidate's view of one lease. `mono` is monotonic time in seconds."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._seen: Held | None = None
        self._seen_at = 0.0

    @property
    def leader(self) -> str:
        """Who holds the lease, as last seen."""
        return self._seen.holder if self._seen else ""

    @property
    def leads(self) -> bool:
        return self.leader == self._terms.identity

    def attempt(self, lease: Json | None, mono: float, now_ms: int) -> Json | None:
        """The lease to be written, given the one that is there; None while somebody else holds it."""
        now = _micro_time(now_ms)
        if lease is None:
            held = Held(self._terms.identity, self._terms.lease_s, now, now)
            return self._lease(held, {"name": self._terms.name, "namespace": self._terms.namespace})
        held = _held(lease)
        if held != self._seen:
            self._seen, self._seen_at = held, mono
        mine = held.holder == self._terms.identity
        if held.holder and not mine and mono < self._seen_at + held.duration_s:
            return None
        wanted = Held(
            holder=self._terms.identity,
            duration_s=self._terms.lease_s,
            acquired_at=held.acquired_at if mine else now,
            renewed_at=now,
            transitions=held.transitions if mine else held.transitions + 1,
        )
        return self._lease(wanted, lease["metadata"])

    def written(self, lease: Json, mono: float) -> None:
        """The API server took it."""
        self._seen, self._seen_at = _held(lease), mono

    def release(self, lease: Json, now_ms: int) -> Json | None:
        """The lease that lets the next candidate begin at once; None if it is not held by this one."""
        held = _held(lease)
        if held.holder != self._terms.identity:
            return None
        now = _micro_time(now_ms)
        return self._lease(Held("", 1, now, now, held.transitions), lease["metadata"])

    @staticmethod
    def _lease(held: Held, metadata: Json) -> Json:
        return {
            "apiVersion": LEASES.api_version,
            "kind": "Lease",
            "metadata": {name: value for name, value in metadata.items() if name != "managedFields"},
            "spec": {
                "holderIdentity": held.holder,
                "leaseDurationSeconds": held.duration_s,
                "acquireTime": held.acquired_at,
                "renewTime": held.renewed_at,
                "leaseTransitions": held.transitions,
            },
        }


def _held(lease: Json) -> Held:
    spec = lease.get("spec") or {}
    return Held(
        holder=spec.get("holderIdentity") or "",
        duration_s=spec.get("leaseDurationSeconds") or 0,
        acquired_at=spec.get("acquireTime") or "",
        renewed_at=spec.get("renewTime") or "",
        transitions=spec.get("leaseTransitions") or 0,
    )


def _micro_time(now_ms: int) -> str:
    """metav1.MicroTime."""
    seconds, millis = divmod(now_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}000Z"
