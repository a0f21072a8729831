"""How the embedded servers tell a terminal what they are doing; silent by default."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from any thread, often: `step` is a phrase for people, `done` of `total` in the step's own unit."""

    def __call__(self, step: str, done: int, total: int) -> None: ...


def silent(step: str, done: int, total: int) -> None:
    """Report nothing."""
