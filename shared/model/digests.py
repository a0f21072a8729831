"""Digests of sets: equal if and only if the sets are, whatever the order in which they were put together.

Two parties that hold the same set of things compare sixteen bytes instead of the set. The digest of a set is the sum,
modulo 2^128, of the BLAKE2b-128 hashes of its entries (the additive hash of Bellare and Micciancio, "A new paradigm for
collision-free hashing", 1997, without its key: it is to notice faults, not forgers). A sum, and not an exclusive or,
so that an entry which is counted twice does not vanish.

An entry is what something is called and which state of it is meant, both as text. Any language can do this: UTF-8,
a zero byte in between, big-endian.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

_MODULUS: Final = 1 << 128
_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class SetDigest:
    """How many entries, and the sum of their hashes. `text` is its form on the wire: 32 hexadecimal digits."""

    count: int = 0
    total: int = 0

    @property
    def text(self) -> str:
        return f"{self.total:032x}"

    def plus(self, name: str, state: str) -> SetDigest:
        return SetDigest(self.count + 1, (self.total + _hash(name, state)) % _MODULUS)

    def minus(self, name: str, state: str) -> SetDigest:
        """Without an entry that it has."""
        return SetDigest(self.count - 1, (self.total - _hash(name, state)) % _MODULUS)


EMPTY: Final = SetDigest()


def digest_of(entries: Mapping[str, str] | Iterable[tuple[str, str]]) -> SetDigest:
    """The digest of names and their states: about a microsecond for each."""
    items = entries.items() if isinstance(entries, Mapping) else entries
    count = total = 0
    for name, state in items:
        count += 1
        total += _hash(name, state)
    return SetDigest(count, total % _MODULUS)


@dataclass(frozen=True, slots=True)
class Difference:
    """How what somebody holds differs from what it should be, by name, each sorted.

    `missing` is not held, `extra` should not be, `other` is held in another state.
    """

    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.other)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted((*self.missing, *self.extra, *self.other)))


def difference(held: Mapping[str, str], should_be: Mapping[str, str]) -> Difference:
    return Difference(
        missing=tuple(sorted(should_be.keys() - held.keys())),
        extra=tuple(sorted(held.keys() - should_be.keys())),
        other=tuple(sorted(name for name, state in held.items() if should_be.get(name, state) != state)),
    )


def _hash(name: str, state: str) -> int:
    return int.from_bytes(blake2b(f"{name}\0{state}".encode(), digest_size=_BYTES).digest(), "big")
