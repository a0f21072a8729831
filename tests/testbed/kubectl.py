"""The real kubectl, for any kubeconfig: of a real cluster, of a hub or of the simulator."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

from tests.testbed.installation import binaries


class KubectlError(RuntimeError):
    """kubectl ended with an error; the message is what it wrote to stderr."""


async def run_kubectl(
    kubeconfig: Path, *arguments: str, stdin: str | None = None, within: float = 60.0, cache: Path | None = None
) -> str:
    """What kubectl prints. `cache` keeps its discovery cache between calls.

    The user's own cache is never used: it is keyed by address, and addresses of test clusters come back.
    """
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="flotilla-kubectl-") as temporary:
            return await run_kubectl(kubeconfig, *arguments, stdin=stdin, within=within, cache=Path(temporary))
    process = await asyncio.create_subprocess_exec(
        binaries()["kubectl"],
        *arguments,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(cache)},
    )
    try:
        given = None if stdin is None else stdin.encode()
        out, complaint = await asyncio.wait_for(process.communicate(given), within)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):  # it ended in the meantime
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise KubectlError(f"kubectl {' '.join(arguments)}: {complaint.decode(errors='replace').strip()}")
    return out.decode()
