"""Identities without a random source: the same seed gives the same uids and name suffixes."""

from __future__ import annotations

from hashlib import blake2b
from uuid import UUID

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""The alphabet of Kubernetes' generated names: no vowels, so no words."""


class Ids:
    def __init__(self, seed: str) -> None:
        self._key = blake2b(seed.encode(), digest_size=32).digest()
        self._count = 0

    def _digest(self, size: int) -> bytes:
        self._count += 1
        return blake2b(self._count.to_bytes(8, "big"), key=self._key, digest_size=size).digest()

    def uid(self) -> str:
        return str(UUID(bytes=self._digest(16), version=4))

    def suffix(self, length: int = 5) -> str:
        return "".join(_SUFFIX_LETTERS[byte % 27] for byte in self._digest(length))

    def fraction(self) -> float:
        """A number in [0, 1), for jitter that replays."""
        return int.from_bytes(self._digest(6), "big") / (1 << 48)


def stable_hash(data: bytes, length: int = 10) -> str:
    """A name-safe hash, as in `pod-template-hash`; not Kubernetes' own, which depends on Go's printing."""
    return "".join(_SUFFIX_LETTERS[byte % 27] for byte in blake2b(data, digest_size=length).digest())
