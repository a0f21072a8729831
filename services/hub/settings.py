"""FLOTILLA_HUB_* variables."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from services.hub.decision.state import Policy
from shared.runtime.settings import CommonSettings


def _identity() -> str:
    return f"{socket.gethostname()}_{os.getpid()}"


class HubSettings(CommonSettings):
    hub_kubeconfig: Path | None = Field(
        default=None, description="kubeconfig of the hub cluster; without it the pod's service account is used"
    )
    hub_context: str = Field(default="", description="context in that kubeconfig; empty takes its current one")
    hub_id: str = Field(default_factory=_identity, description="this replica's identity in the lease")
    hub_install_crds: bool = Field(default=True, description="install or update the custom resources at start")
    hub_namespace: str = Field(
        default="default", description="where the Workloads live that are made from spec.workloads of Clusters"
    )

    hub_lease_namespace: str = Field(default="flotilla-system", description="namespace of the lease; made if missing")
    hub_lease_name: str = Field(default="6d45bc58.k8s.io", description="name of the lease")
    hub_lease_s: int = Field(default=15, ge=1, description="a lease that was not renewed for so long may be taken")
    hub_renew_s: float = Field(default=10.0, gt=0, description="a leader that could not renew for so long gives up")
    hub_retry_s: float = Field(default=2.0, gt=0, description="time between two tries to take or renew the lease")

    hub_workers: int = Field(default=16, ge=1, le=64, description="objects that are worked on at the same time")
    hub_writes_per_s: float = Field(default=200.0, gt=0, description="most writes to the hub cluster in a second")
    hub_status_interval_s: float = Field(
        default=1.0, ge=0, description="least time between two writes of one object's status"
    )
    hub_refresh_s: float = Field(
        default=60.0, gt=0, description="how old lastHeartbeat and measured use of a Cluster may become"
    )
    hub_answer_s: float = Field(
        default=5.0, gt=0, description="a request without an answer for so long is shown as such"
    )
    hub_delete_grace_s: float = Field(
        default=30.0, gt=0, description="how long a deletion waits for an answer about what the fleet does not know"
    )

    hub_provision: bool = Field(
        default=True, description="make the clusters of Clusters with spec.provision, and delete them with these"
    )
    hub_kubeconfig_dir: Path | None = Field(
        default=None,
        description="directory that gets a kubeconfig for each cluster that Cluster API made: the agents' "
        "FLOTILLA_WATCHER_KUBECONFIG_DIR and FLOTILLA_EXECUTOR_KUBECONFIG_DIR; without it agents are run by others",
    )
    hub_kubeconfig_secret: str = Field(
        default="",
        description="or the name of a Secret in FLOTILLA_HUB_LEASE_NAMESPACE that gets them as keys, for agents that "
        "mount it as that directory",
    )
    hub_management_dir: Path | None = Field(
        default=None,
        description="directory of kubeconfigs of management clusters, whose file names spec.provision.management names",
    )
    hub_management_deadline_s: float = Field(
        default=10.0, gt=0, description="deadline of what is asked of a management cluster at a time, in seconds"
    )
    hub_provision_s: float = Field(
        default=60.0, gt=0, description="time between two looks at a cluster that is as it should be, in seconds"
    )
    hub_provision_busy_s: float = Field(
        default=5.0, gt=0, description="time between two looks at a cluster that comes, changes or goes, in seconds"
    )
    hub_drain_settle_s: float = Field(
        default=5.0, ge=0, description="how long a cluster is closed before it is believed to be empty, in seconds"
    )
    hub_drain_s: float = Field(
        default=60.0,
        gt=0,
        description="what has not begun to leave a cluster that is drained for so long is said to wait for room",
    )
    hub_leave_s: float = Field(
        default=30.0, gt=0, description="longest wait for agents to leave before a cluster is deleted, in seconds"
    )

    hub_webhook: bool = Field(default=True, description="register /admit with the hub cluster")
    hub_webhook_failure_policy: Literal["Ignore", "Fail"] = Field(
        default="Ignore",
        description="Ignore: while no hub answers, objects are stored and checked later; Fail: they are refused",
    )
    hub_admit_host: str = Field(default="127.0.0.1", description="address of /admit over TLS")
    hub_admit_port: int = Field(default=0, ge=-1, le=65535, description="its port; 0 picks a free one, -1 serves none")
    hub_admit_url: str = Field(
        default="", description="how the API server reaches /admit; empty: https://<host>:<port>/admit"
    )
    hub_certificate: Path | None = Field(
        default=None, description="certificate of /admit (PEM); without one a self-signed one is made at start"
    )
    hub_key: Path | None = Field(default=None, description="its private key (PEM)")
    hub_ca: Path | None = Field(
        default=None, description="the authority that signed it (PEM), for the API server; empty: the certificate"
    )

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.hub_certificate is None) != (self.hub_key is None):
            raise ValueError("FLOTILLA_HUB_CERTIFICATE and FLOTILLA_HUB_KEY go together")
        if self.hub_kubeconfig_dir is not None and self.hub_kubeconfig_secret:
            raise ValueError("either FLOTILLA_HUB_KUBECONFIG_DIR or FLOTILLA_HUB_KUBECONFIG_SECRET, not both")
        if not self.hub_lease_s > self.hub_renew_s > 1.2 * self.hub_retry_s:
            raise ValueError("want FLOTILLA_HUB_LEASE_S > FLOTILLA_HUB_RENEW_S > 1.2 * FLOTILLA_HUB_RETRY_S")
        return self

    def policy(self) -> Policy:
        return Policy(
            owned_namespace=self.hub_namespace,
            status_interval_ms=round(self.hub_status_interval_s * 1000),
            refresh_ms=round(self.hub_refresh_s * 1000),
            answer_ms=round(self.hub_answer_s * 1000),
            delete_grace_ms=round(self.hub_delete_grace_s * 1000),
            provision=self.hub_provision,
            provision_ms=round(self.hub_provision_s * 1000),
            provision_busy_ms=round(self.hub_provision_busy_s * 1000),
            settle_ms=round(self.hub_drain_settle_s * 1000),
            drain_ms=round(self.hub_drain_s * 1000),
            leave_ms=round(self.hub_leave_s * 1000),
        )
