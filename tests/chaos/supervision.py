"""What ends by itself is started again, as a kubelet would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp

from tests.testbed.api import ApiError
from tests.testbed.cluster import STORE, RealCluster
from tests.testbed.process import ComponentError

RESTART_S: Final = 1.0
_LOG_TAIL: Final = 1500

Tell = Callable[[str, str, str], None]  # process, event, detail


async def keep_running(cluster: RealCluster, tell: Tell) -> None:
    """Starts the cluster's controllers again when they end by themselves, until cancelled.

    A kube-scheduler does so where a killed etcd lost what it was told to be written. The API server and etcd are what
    faults hold down, and are left to them.
    """
    while True:
        for name, component in cluster.components.items():
            if name in STORE or component.running:
                continue
            process = f"{cluster.name}/{name}"
            tell(process, "failed", component.tail()[-_LOG_TAIL:])
            try:
                await cluster.restart(name)
            except (ComponentError, ApiError, aiohttp.ClientError, TimeoutError) as error:
                tell(process, "not started", str(error)[-_LOG_TAIL:])
            else:
                tell(process, "started", "by the supervisor")
        await asyncio.sleep(RESTART_S)
