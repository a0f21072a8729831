"""`python -m tests.testbed up`: real clusters to look at and to run the demo on, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.testbed.build import BuildError, build
from tests.testbed.cluster import RealCluster, hub_cluster
from tests.testbed.process import ComponentError, together

STARTS_AT_ONCE: Final = 2  # a starting cluster keeps two cores busy; more at once would only be late together


async def up(clusters: list[RealCluster], directory: Path, stopped: asyncio.Event, say: Callable[[str], None]) -> None:
    """Run the clusters, with a kubeconfig for each in the directory, until `stopped` is set."""
    gate = asyncio.Semaphore(STARTS_AT_ONCE)
    written: list[Path] = []

    async def start(cluster: RealCluster) -> None:
        async with gate:
            await cluster.start()
        target = directory / f"{cluster.name}.kubeconfig"
        await asyncio.to_thread(shutil.copy, cluster.kubeconfig, target)  # with its mode: it is a secret
        written.append(target)
        say(f"{cluster.name} {target}")

    async def start_all() -> None:
        await together(start(cluster) for cluster in clusters)
        say("ready; Ctrl-C stops")
        await stopped.wait()

    starting, stopping = asyncio.create_task(start_all()), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting  # raises what went wrong
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await asyncio.gather(*(cluster.stop() for cluster in clusters))
        for path in written:
            path.unlink(missing_ok=True)


async def run(options: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    clusters = [
        RealCluster(f"{options.prefix}-{number}", nodes=options.nodes, with_metrics=options.metrics)
        for number in range(1, options.clusters + 1)
    ]
    if options.hub:
        clusters.insert(0, hub_cluster())
    await up(clusters, options.dir, stopped, lambda line: print(line, flush=True))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    verb = parser.add_subparsers(required=True).add_parser("up", help="run clusters until Ctrl-C")
    verb.add_argument("--clusters", type=int, default=1, help="complete clusters (default: 1)")
    verb.add_argument("--nodes", type=int, default=3, help="nodes of each (default: 3)")
    verb.add_argument("--hub", action="store_true", help="also a cluster `hub`: etcd and kube-apiserver only")
    verb.add_argument("--metrics", action="store_true", help="also serve metrics.k8s.io")
    verb.add_argument("--prefix", default="real", help="clusters are called PREFIX-1, … (default: real)")
    verb.add_argument("--dir", type=Path, required=True, help="where NAME.kubeconfig of each is written")
    options = parser.parse_args()
    try:
        build()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    options.dir.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(run(options))
    except ComponentError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
