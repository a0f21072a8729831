"""Where everything of one cluster is: its directory, ports, certificates and kubeconfigs, made anew for each start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.testbed.installation import binaries, stages
from tests.testbed.pki import Authority, KeyPair, write_key, write_kubeconfig
from tests.testbed.process import Port

# The user and groups that each component is, as kubeadm makes them; kwok is all kubelets at once.
IDENTITIES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kwok": ("kwok", ("system:masters",)),
    "admin": ("admin", ("system:masters",)),
}
# The names under which the API server is verified; the last is the metrics server's, which shares its certificate.
LOOPBACK: Final = "127.0.0.1"
SERVER_NAMES: Final = (
    LOOPBACK,
    "localhost",
    "kubernetes",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "metrics-server.kube-system.svc",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything that the components' command lines refer to."""

    data: Path
    binaries: Mapping[str, Path]
    stages: Sequence[Path]
    ports: Mapping[str, Port]  # etcd, etcd-peer, kube-apiserver, kube-controller-manager, kube-scheduler, kwok
    authority: KeyPair
    server: KeyPair
    admin: KeyPair
    front_proxy_authority: KeyPair
    proxy_client: KeyPair
    token_key: Path
    kubeconfigs: Mapping[str, Path]  # component → kubeconfig
    node_grace_s: float
    host: str = LOOPBACK

    def url(self, component: str, scheme: str = "https") -> str:
        return f"{scheme}://{self.host}:{self.ports[component]}"


def make_layout(
    cluster: str, data: Path, components: Sequence[str], node_grace_s: float, host: str = LOOPBACK
) -> Layout:
    """Make the certificates and kubeconfigs in the (empty) directory, and hold a port of `host` for each component."""
    authority = Authority(data / "pki", "kubernetes")
    front_proxy = Authority(data / "pki" / "front-proxy", "front-proxy")
    token_key = data / "pki" / "tokens.key"
    write_key(token_key)
    ports = {name: Port(host) for name in (*components, "etcd-peer")}
    kubeconfigs: dict[str, Path] = {}
    clients: dict[str, KeyPair] = {}
    for component, (user, groups) in IDENTITIES.items():
        clients[component] = authority.client(user, groups)
        kubeconfigs[component] = data / f"{component}.kubeconfig"
        write_kubeconfig(
            kubeconfigs[component],
            cluster=cluster,
            server=f"https://{host}:{ports['kube-apiserver']}",
            authority=authority.files.certificate,
            user=user,
            client=clients[component],
        )
    return Layout(
        data=data,
        binaries=binaries(),
        stages=stages(),
        ports=ports,
        authority=authority.files,
        server=authority.server("kube-apiserver", tuple(dict.fromkeys((*SERVER_NAMES, host)))),
        admin=clients["admin"],
        front_proxy_authority=front_proxy.files,
        proxy_client=front_proxy.client("front-proxy-client"),
        token_key=token_key,
        kubeconfigs=kubeconfigs,
        node_grace_s=node_grace_s,
        host=host,
    )
