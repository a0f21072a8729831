"""Digests of sets: equal if and only if the sets are, whatever the order."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from shared.model.digests import EMPTY, difference, digest_of

NAMES = st.text(min_size=1, max_size=4)
SETS = st.dictionaries(NAMES, NAMES, max_size=12)


@given(SETS, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(entries: dict[str, str], random: Random) -> None:
    items = list(entries.items())
    random.shuffle(items)
    assert digest_of(items) == digest_of(entries)


@given(SETS, SETS)
def test_equal_digests_mean_equal_sets(one: dict[str, str], other: dict[str, str]) -> None:
    assert (digest_of(one) == digest_of(other)) == (one == other)
    assert bool(len(difference(one, other))) == (one != other)


@given(st.lists(st.tuples(NAMES, st.one_of(st.none(), NAMES)), max_size=30))
def test_it_can_be_kept_step_by_step(steps: list[tuple[str, str | None]]) -> None:
    """Whatever is put, changed and taken out, it is the digest of what is there."""
    held: dict[str, str] = {}
    digest = EMPTY
    for name, state in steps:
        if name in held:
            digest = digest.minus(name, held.pop(name))
        if state is not None:
            held[name] = state
            digest = digest.plus(name, state)
        assert digest == digest_of(held)


@given(SETS, SETS)
def test_a_difference_names_what_differs(held: dict[str, str], should_be: dict[str, str]) -> None:
    found = difference(held, should_be)
    mended = {name: state for name, state in held.items() if name not in found.extra}
    mended |= {name: should_be[name] for name in (*found.missing, *found.other)}
    assert mended == should_be
    assert found.names == tuple(sorted(n for n in held.keys() | should_be if held.get(n) != should_be.get(n)))


def test_an_entry_that_is_there_twice_does_not_vanish() -> None:
    assert digest_of([("a", "1"), ("a", "1")]) != EMPTY


def test_any_language_can_compute_it() -> None:
    """The form on the wire: not to be changed."""
    hashes = [blake2b(text, digest_size=16).digest() for text in (b"shop/web\0u/7", b"-/node-1\0v/3")]
    total = sum(int.from_bytes(each, "big") for each in hashes) % 2**128
    digest = digest_of({"shop/web": "u/7", "-/node-1": "v/3"})
    assert (digest.count, digest.text) == (2, f"{total:032x}")
