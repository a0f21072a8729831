"""The lease by client-go's semantics, on a store with optimistic concurrency."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from services.hub.decision.election import Election, Terms

NOW_MS = 1_700_000_000_123


class Store:
    """One lease, as an API server keeps it."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def get(self) -> dict[str, Any] | None:
        return copy.deepcopy(self.lease)

    def put(self, lease: dict[str, Any]) -> dict[str, Any]:
        """False where another was faster."""
        given = lease["metadata"].get("resourceVersion")
        present = self.lease["metadata"]["resourceVersion"] if self.lease else None
        assert given == present, "conflict"
        self.version += 1
        self.lease = copy.deepcopy(lease)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)


def candidate(identity: str) -> Election:
    return Election(Terms(identity=identity, name="6d45bc58.k8s.io", namespace="flotilla-system"))


def attempt(election: Election, store: Store, mono: float) -> bool:
    wanted = election.attempt(store.get(), mono, NOW_MS + round(mono * 1000))
    if wanted is None:
        return False
    election.written(store.put(wanted), mono)
    return True


def test_the_first_candidate_makes_the_lease() -> None:
    store, first = Store(), candidate("a")
    assert attempt(first, store, 0)
    assert first.leads
    assert store.lease is not None
    assert store.lease["metadata"]["name"] == "6d45bc58.k8s.io"
    assert store.lease["spec"] == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2023-11-14T22:13:20.123000Z",
        "renewTime": "2023-11-14T22:13:20.123000Z",
        "leaseTransitions": 0,
    }


def test_a_renewal_keeps_when_it_was_acquired() -> None:
    store, first = Store(), candidate("a")
    attempt(first, store, 0)
    assert attempt(first, store, 2)
    assert store.lease is not None
    assert store.lease["spec"]["acquireTime"] == "2023-11-14T22:13:20.123000Z"
    assert store.lease["spec"]["renewTime"] == "2023-11-14T22:13:22.123000Z"
    assert store.lease["spec"]["leaseTransitions"] == 0


def test_a_second_candidate_waits_while_the_lease_is_renewed() -> None:
    store, first, second = Store(), candidate("a"), candidate("b")
    attempt(first, store, 0)
    for mono in range(1, 60, 2):
        assert attempt(first, store, mono)
        assert not attempt(second, store, mono + 0.5)
    assert second.leader == "a"
    assert not second.leads


def test_an_expired_lease_is_taken_by_the_candidates_own_clock() -> None:
    store, first, second = Store(), candidate("a"), candidate("b")
    attempt(first, store, 0)
    # The second one first sees it long after the times that stand in it: it waits for the whole duration all the same.
    assert not attempt(second, store, 1000)
    assert not attempt(second, store, 1014.9)
    assert attempt(second, store, 1015)
    assert store.lease is not None
    assert store.lease["spec"]["leaseTransitions"] == 1
    assert store.lease["spec"]["holderIdentity"] == "b"


def test_the_former_leader_sees_that_it_was_replaced() -> None:
    store, first, second = Store(), candidate("a"), candidate("b")
    attempt(first, store, 0)
    attempt(second, store, 0)
    assert attempt(second, store, 15)
    assert not attempt(first, store, 16)
    assert not first.leads


def test_two_candidates_for_one_expired_lease_are_decided_by_the_server() -> None:
    store, first, second = Store(), candidate("a"), candidate("b")
    one = first.attempt(store.get(), 0, NOW_MS)
    two = second.attempt(store.get(), 0, NOW_MS)
    assert one is not None
    assert two is not None
    store.put(one)
    with pytest.raises(AssertionError, match="conflict"):
        store.put(two)


def test_a_released_lease_is_taken_at_once() -> None:
    store, first, second = Store(), candidate("a"), candidate("b")
    attempt(first, store, 0)
    assert not attempt(second, store, 0.5)
    released = first.release(store.get() or {}, NOW_MS)
    assert released is not None
    assert released["spec"]["holderIdentity"] == ""
    assert released["spec"]["leaseDurationSeconds"] == 1
    store.put(released)
    assert attempt(second, store, 0.6)


def test_only_the_holder_releases() -> None:
    store, first, second = Store(), candidate("a"), candidate("b")
    attempt(first, store, 0)
    assert second.release(store.get() or {}, NOW_MS) is None


@pytest.mark.parametrize(("lease_s", "renew_s", "retry_s"), [(10, 10, 2), (15, 2, 2), (15, 10, 0)])
def test_terms_that_would_allow_two_leaders_are_refused(lease_s: int, renew_s: float, retry_s: float) -> None:
    with pytest.raises(ValueError, match="must last longer"):
        Terms(identity="a", name="n", namespace="ns", lease_s=lease_s, renew_s=renew_s, retry_s=retry_s)
