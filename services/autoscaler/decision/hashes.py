"""The hashes by which records of decisions say what they went by."""

from __future__ import annotations

import hashlib
from typing import Final

_DIGITS: Final = 16


def short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]
