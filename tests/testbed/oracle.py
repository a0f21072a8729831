"""Kubernetes' own HorizontalPodAutoscaler as a program that answers cases: compiled once, into the cache.

The sources of `k8s.io/kubernetes/pkg/controller/podautoscaler` are laid beside `podautoscaler/oracle_test.go` for the
compiler alone (`-overlay`): they stay in the module cache, what is compiled is what go.mod pins, and our file may call
what the package does not export.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.testbed.build import find_go, made_once, run_go
from tests.testbed.installation import MODULE, cache_root, installation

PACKAGE: Final = "k8s.io/kubernetes/pkg/controller/podautoscaler"
_OURS: Final = MODULE / "podautoscaler" / "oracle_test.go"
_RUN_S: Final = 1200

Json = dict[str, Any]


def oracle() -> Path:
    """Build the program if it is missing; safe to call from several processes. Raises BuildError."""
    digest = hashlib.sha256(installation().name.encode() + _OURS.read_bytes()).hexdigest()[:16]

    def make(built: Path) -> None:
        go = find_go()
        source = Path(run_go(go, "list", "-f", "{{.Dir}}", PACKAGE).strip())
        theirs = [path for path in source.glob("*.go") if not path.name.endswith("_test.go")]
        overlay = built.with_name("overlay.json")
        overlay.write_text(json.dumps({"Replace": {str(_OURS.parent / path.name): str(path) for path in theirs}}))
        flags = ("-trimpath", "-buildvcs=false", "-mod=readonly", "-overlay", str(overlay))
        run_go(go, "test", "-c", *flags, "-o", str(built), "./podautoscaler")

    return made_once(cache_root() / f"podautoscaler-{digest}", make)


def ask(cases: Sequence[Json]) -> list[list[Json]]:
    """What the original does in each case, look by look."""
    with tempfile.TemporaryDirectory(prefix="oracle-") as temporary:
        asked, answered = Path(temporary) / "cases", Path(temporary) / "results"
        asked.write_text("".join(json.dumps(case) + "\n" for case in cases))
        environment = {**os.environ, "ORACLE_CASES": str(asked), "ORACLE_RESULTS": str(answered)}
        done = subprocess.run(
            [oracle(), "-test.run", "TestOracle"],
            env=environment, capture_output=True, text=True, timeout=_RUN_S, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the oracle failed:\n{done.stdout[-4000:]}")
        return [json.loads(line) for line in answered.read_text().splitlines()]


if __name__ == "__main__":
    print(oracle())
