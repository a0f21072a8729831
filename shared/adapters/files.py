"""Files that are written whole or not at all, so that nobody ever reads half of one; and whether any was written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

Fingerprint = tuple[object, ...]


def write_whole(target: Path, text: str) -> None:
    """By an atomic rename; readable by its owner only, as it may hold a credential. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def fingerprint(files: Iterable[Path]) -> Fingerprint:
    """Changes when any of the files is written or its symlink is turned (as Kubernetes does with mounted volumes)."""
    return tuple(_stat(path) for path in files)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
