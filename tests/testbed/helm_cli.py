"""Helm itself, compiled once into the cache from what `helm/go.mod` pins: `python -m tests.testbed.helm_cli`.

A module of its own, since Helm wants newer versions of a few libraries than Kubernetes' components are tested with.
Its `replace` lines hold back what both use: all but some 240 packages are in Go's cache once the test bed is built.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import sys
from pathlib import Path
from typing import Final

from tests.testbed.build import BuildError, find_go, made_once, run_go
from tests.testbed.installation import MODULE, MissingBinariesError, cache_root

_PINS: Final = MODULE / "helm"
_BUILD_S: Final = 2400


class HelmError(RuntimeError):
    """helm ended with an error; the message is what it wrote."""


def version() -> str:
    """The version that go.mod requires, such as `v4.2.4`."""
    found = re.search(r"^\s*helm\.sh/helm/v4 (v\S+)", (_PINS / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise LookupError("helm/go.mod does not require Helm")
    return found.group(1)


def target() -> Path:
    """Where the build of these pins is, or will be."""
    digest = hashlib.sha256((_PINS / "go.mod").read_bytes() + (_PINS / "go.sum").read_bytes()).hexdigest()
    return cache_root() / f"helm-{digest[:16]}"


def helm() -> Path:
    """The program. Raises MissingBinariesError where it is not built."""
    if not target().is_file():
        raise MissingBinariesError(f"{target()} is missing; build it with `python -m tests.testbed.helm_cli`")
    return target()


def build() -> Path:
    """Build the program if it is missing; safe to call from several processes. Raises BuildError."""
    return made_once(target(), _compile)


def _compile(output: Path) -> None:
    # The version of Kubernetes that `helm template` takes a cluster to have, when none is named.
    link = f"-s -w -X helm.sh/helm/v4/internal/version.version={version()}"
    flags = ("-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", link)
    arguments = ("build", *flags, "-o", str(output), "helm.sh/helm/v4/cmd/helm")
    run_go(find_go(_PINS), *arguments, module=_PINS, timeout_s=_BUILD_S)


async def run_helm(*arguments: str, home: Path, kubeconfig: Path | None = None, within: float = 200.0) -> str:
    """What helm prints. `home` keeps its configuration and cache; raises HelmError."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HELM_", "KUBE"))}
    for name in ("CONFIG", "CACHE", "DATA"):
        environment[f"HELM_{name}_HOME"] = str(home / name.lower())
    environment["KUBECONFIG"] = str(kubeconfig or os.devnull)
    process = await asyncio.create_subprocess_exec(
        helm(), *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment,
    )  # fmt: skip
    try:
        out, complaint = await asyncio.wait_for(process.communicate(), within)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):  # it ended in the meantime
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise HelmError(
            f"helm {' '.join(arguments)}: {complaint.decode(errors='replace')}{out.decode(errors='replace')}"
        )
    return out.decode()


def main() -> int:
    try:
        print(build())
    except BuildError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
