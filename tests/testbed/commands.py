"""The command line of every component, as a function of a cluster's layout: all choices are in this one place.

As in a real cluster: RBAC and Node authorisation, NodeRestriction, client certificates, signed service account tokens,
one account for each controller, the aggregation layer, default admission and feature gates. Unlike one:

- etcd does not fsync. A killed process loses nothing (the kernel has its writes); a crashed machine would.
- No leader election for controllers and scheduler: there is one of each, and a lease would cost 15 s at a restart.
- The endpoints of service `kubernetes` are not written, since a loopback address is not valid there.
- Client rate limits are lifted: they protect a shared API server and would only measure themselves here.
"""

from __future__ import annotations

import sys
from typing import Final

from tests.testbed import nodes
from tests.testbed.layout import Layout

SERVICE_CIDR: Final = "10.96.0.0/16"
POD_CIDR: Final = "10.244.0.0/16"

# What needs a cloud, routes or address ranges that fake nodes do not have.
CONTROLLERS_OFF: Final = (
    "node-ipam-controller",
    "node-route-controller",
    "cloud-node-lifecycle-controller",
    "service-lb-controller",
)
CLIENT_RATE: Final = ("--kube-api-qps=500", "--kube-api-burst=1000")


def command(component: str, layout: Layout) -> list[str]:
    """The whole command line of a component."""
    if component == "metrics-server":
        return [sys.executable, "-m", "tests.testbed.metrics_server", *_metrics_server(layout)]
    return [str(layout.binaries[component]), *_FLAGS[component](layout)]


def _etcd(layout: Layout) -> list[str]:
    client, peer = layout.url("etcd", "http"), layout.url("etcd-peer", "http")
    return [
        "--name=etcd-0",
        f"--data-dir={layout.data / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=etcd-0={peer}",
        "--socket-reuse-port",
        "--unsafe-no-fsync",
        # One member elects itself: short timeouts save a second of every start and cannot cost a leader.
        "--heartbeat-interval=20",
        "--election-timeout=200",
        "--log-level=warn",
    ]


def _kube_apiserver(layout: Layout) -> list[str]:
    return [
        f"--etcd-servers={layout.url('etcd', 'http')}",
        f"--bind-address={layout.host}",
        f"--advertise-address={layout.host}",
        f"--secure-port={layout.ports['kube-apiserver']}",
        "--permit-port-sharing",
        "--endpoint-reconciler-type=none",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--tls-cert-file={layout.server.certificate}",
        f"--tls-private-key-file={layout.server.key}",
        f"--client-ca-file={layout.authority.certificate}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={layout.token_key}",
        f"--service-account-signing-key-file={layout.token_key}",
        f"--requestheader-client-ca-file={layout.front_proxy_authority.certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={layout.proxy_client.certificate}",
        f"--proxy-client-key-file={layout.proxy_client.key}",
        "--profiling=false",
    ]


def _delegating(component: str, layout: Layout) -> list[str]:
    """What the controller manager and the scheduler share: who they are, and their own endpoint."""
    kubeconfig = layout.kubeconfigs[component]
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={layout.host}",
        f"--secure-port={layout.ports[component]}",
        "--permit-port-sharing",
        f"--tls-cert-file={layout.server.certificate}",
        f"--tls-private-key-file={layout.server.key}",
        "--leader-elect=false",
        "--profiling=false",
        *CLIENT_RATE,
    ]


def _kube_controller_manager(layout: Layout) -> list[str]:
    return [
        *_delegating("kube-controller-manager", layout),
        f"--controllers=*,{','.join(f'-{name}' for name in CONTROLLERS_OFF)}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={layout.token_key}",
        f"--root-ca-file={layout.authority.certificate}",
        f"--cluster-signing-cert-file={layout.authority.certificate}",
        f"--cluster-signing-key-file={layout.authority.key}",
        f"--node-monitor-grace-period={layout.node_grace_s:g}s",
        f"--node-monitor-period={min(5.0, layout.node_grace_s / 4):g}s",
    ]


def _kube_scheduler(layout: Layout) -> list[str]:
    return _delegating("kube-scheduler", layout)


def _kwok(layout: Layout) -> list[str]:
    # A label and not the usual annotation: the API server tells kwok when a node loses a label that it selects by, so
    # that its kubelet is gone from then on (`fail_nodes`); the loss of an annotation kwok would not notice.
    return [
        f"--kubeconfig={layout.kubeconfigs['kwok']}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-label-selector={nodes.KWOK_LABEL}=fake",
        f"--node-lease-duration-seconds={max(4, round(layout.node_grace_s * 0.8))}",
        f"--cidr={POD_CIDR}",
        f"--server-address={layout.host}:{layout.ports['kwok']}",
        *(f"--config={stage}" for stage in layout.stages),
    ]


def _metrics_server(layout: Layout) -> list[str]:
    return [
        f"--server={layout.url('kube-apiserver')}",
        f"--authority={layout.authority.certificate}",
        f"--certificate={layout.admin.certificate}",
        f"--key={layout.admin.key}",
        f"--port={layout.ports['metrics-server']}",
        f"--serving-certificate={layout.server.certificate}",
        f"--serving-key={layout.server.key}",
        f"--front-proxy-authority={layout.front_proxy_authority.certificate}",
        f"--load={layout.data / 'load.json'}",
        f"--asked={layout.data / 'asked.json'}",
    ]


_FLAGS: Final = {
    "etcd": _etcd,
    "kube-apiserver": _kube_apiserver,
    "kube-controller-manager": _kube_controller_manager,
    "kube-scheduler": _kube_scheduler,
    "kwok": _kwok,
}
