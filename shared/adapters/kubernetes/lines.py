"""Lines out of a byte stream that arrives in chunks of any size.

A watch event is one line, from a hundred bytes to several megabytes, and chunks end anywhere: within a line, within a
character. Pieces of an unfinished line are kept apart and joined once, so a line of many chunks costs what it weighs.
"""

from __future__ import annotations

from typing import Final

# Beyond what etcd lets anybody store (1.5 MiB by default, 8 MiB at the most that is advised), with room to spare.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024


class LineTooLongError(ValueError):
    """A line has no end within the limit: this is not a watch."""


class LineSplitter:
    """Feed chunks, get the lines that they completed, without their line feed and without empty ones."""

    __slots__ = ("_limit", "_pieces", "_size")

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Raises LineTooLongError."""
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._pieces:
            self._pieces.append(lines[0])
            lines[0] = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
            if self._size > self._limit:
                raise LineTooLongError(f"a line of more than {self._limit} bytes")
        return [line for line in lines if line and not line.isspace()]

    def finish(self) -> bytes:
        """What stands behind the last line feed, once the stream has ended."""
        rest = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return rest
