"""What a pod has of its service account, as a kubelet lays and renews it, and a place in which a process finds it.

The test bed's kubelets are kwok's, which run no containers: a process in a mount namespace of its own stands for one.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from services.cli.fleet.process import Place
from tests.testbed.cluster import RealCluster

MOUNTED: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
# In that namespace alone: the machine's own /run is not touched.
_ENTER: Final = f"""
mount -t tmpfs run "$(readlink -f /var/run)" && mkdir -p {MOUNTED} && mount --bind "$0" {MOUNTED} && exec "$@"
"""


class ServiceAccountVolume:
    """Links through `..data` into a folder that is replaced as a whole, so that the files change at one moment."""

    def __init__(self, directory: Path, cluster: RealCluster, namespace: str) -> None:
        self._directory = directory
        self._server = urlsplit(cluster.layout.url("kube-apiserver"))
        self._files = {"ca.crt": cluster.layout.authority.certificate.read_text(), "namespace": namespace}
        self._written = 0
        directory.mkdir()

    def write(self, token: str) -> None:
        """At first, and again before the old token ends."""
        self._written += 1
        folder = self._directory / f"..{self._written}"
        folder.mkdir()
        for name, text in {**self._files, "token": token}.items():
            (folder / name).write_text(text)
        turned = self._directory / "..data_tmp"
        turned.symlink_to(folder.name)
        turned.rename(self._directory / "..data")
        if self._written == 1:
            for name in (*self._files, "token"):
                (self._directory / name).symlink_to(f"..data/{name}")

    @property
    def environment(self) -> dict[str, str]:
        """What a kubelet tells every container of its API server."""
        return {
            "KUBERNETES_SERVICE_HOST": str(self._server.hostname),
            "KUBERNETES_SERVICE_PORT": str(self._server.port),
        }

    @property
    def place(self) -> Place:
        """Where a process has the volume. Needs root, or a kernel that lets users have namespaces."""
        unshare = str(shutil.which("unshare"))
        return Place(enter=(unshare, "--mount", "--propagation", "private", "sh", "-c", _ENTER, str(self._directory)))
