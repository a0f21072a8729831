"""Compiled code that comes with the image, on a file system that is read only.

numba uses a cache only where it may write. On a read-only root, as every container of the fleet has, a scheduler would
compile its inner loops at each start, which takes some 20 seconds of CPU. So `python -m services.scheduler.baked_cache`
compiles them when the image is built (`deploy/docker/control-plane.Dockerfile`), into NUMBA_CACHE_DIR, and the image
names `BakedCacheLocator` in NUMBA_CACHE_LOCATOR_CLASSES: numba then reads there and looks no further. What is not in
there is compiled when it is imported, as before.

The cache's key has the processor in it, so the image says NUMBA_CPU_NAME=generic, for all who build it or run it. What
numba keeps has addresses of the process that compiled in it, as text, in names that must only be unique. They are
counted through, so that building an image twice gives the same bytes.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path

from numba.core.caching import UserProvidedCacheLocator

_ADDRESS = re.compile(rb"0x[0-9a-f]{12}(?![0-9a-f])")


class BakedCacheLocator(UserProvidedCacheLocator):
    """Finds functions in NUMBA_CACHE_DIR where that has a folder for their file, writable or not."""

    def ensure_cache_path(self) -> None:
        """Raises OSError where nothing was compiled for this function's file, which makes numba do without a cache."""
        path = Path(self.get_cache_path())  # type: ignore[no-untyped-call]
        if not path.is_dir():
            raise FileNotFoundError(path)


def without_addresses(directory: Path) -> None:
    """Numbers the addresses in all files of a cache, equal ones alike, in the order of the files' names."""
    numbers: dict[bytes, bytes] = {}

    def number(match: re.Match[bytes]) -> bytes:
        return numbers.setdefault(match[0], b"0x%012x" % (len(numbers) + 1))

    for path in sorted(directory.rglob("*.nbc")):
        path.write_bytes(_ADDRESS.sub(number, path.read_bytes()))


def main() -> int:
    """Compiles all that a scheduler imports. The exit code."""
    directory = os.environ.get("NUMBA_CACHE_DIR")
    if not directory:
        sys.stderr.write("NUMBA_CACHE_DIR does not say where to\n")
        return 2
    importlib.import_module("services.scheduler.bootstrap")
    without_addresses(Path(directory))
    return 0


if __name__ == "__main__":
    sys.exit(main())
