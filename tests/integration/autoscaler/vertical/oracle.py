"""The Vertical Pod Autoscaler's own code, at the version that `go.mod` pins, as a program that is asked cases."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tests.testbed.build import find_go, made_once, run_go
from tests.testbed.installation import cache_root

# About 5 minutes on 2 idle cores, where it has to be built.
BUILD_S: Final = 2400
_MODULE: Final = Path(__file__).parent
_FILES: Final = ("main.go", "updater.go", "go.mod", "go.sum")

Json = dict[str, Any]


def cases() -> int:
    """How many, by default and at most what is a matter of seconds and of minutes."""
    return min(int(os.environ.get("FLOTILLA_ORACLE_CASES", "500")), 20_000)


def program() -> Path:
    """Builds it if it is missing; safe to call from several processes. Raises BuildError."""
    digest = hashlib.sha256(b"".join((_MODULE / name).read_bytes() for name in _FILES)).hexdigest()[:16]

    def make(built: Path) -> None:
        flags = ("-trimpath", "-buildvcs=false", "-mod=readonly")
        run_go(find_go(_MODULE), "build", *flags, "-o", str(built), ".", module=_MODULE, timeout_s=1800)

    return made_once(cache_root() / f"vertical-{digest}", make, "lock-vertical")


def ask(questions: Iterable[Json], *arguments: str) -> list[Any]:
    """An answer to each. Raises BuildError, and RuntimeError."""
    asked = "".join(json.dumps(item) + "\n" for item in questions)
    command = [str(program()), *arguments]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"the oracle failed:\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]
