"""Records are decoded once for all simulated processes: what several of them read is the same bytes.

Sound because messages are frozen values: a process that changed one would change it for all, and the digests of a
thousand seeds are the same with and without this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from unittest.mock import patch

from pydantic import BaseModel

from shared.events import registry

# An hour and more of records: the checker reads them all once more at the end.
_REMEMBERED = 32_768


@contextmanager
def remembered() -> Iterator[None]:
    def validated(model: type[BaseModel], value: bytes) -> BaseModel:
        return model.model_validate_json(value)

    remembering: Any = lru_cache(_REMEMBERED)(validated)
    with patch.object(registry, "validated", remembering):
        yield
