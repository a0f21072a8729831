"""FLOTILLA_EXECUTOR_* variables."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from services.executor.decision.backoff import Policy
from shared.runtime.settings import ClusterName, CommonSettings


class ExecutorSettings(CommonSettings):
    executor_cluster: ClusterName = Field(
        default="", description="name of the cluster, for one cluster; not with a directory"
    )
    executor_kubeconfig: Path | None = Field(
        default=None, description="kubeconfig of the one cluster; without it the pod's service account is used"
    )
    executor_kubeconfig_dir: Path | None = Field(
        default=None,
        description="directory of kubeconfigs, one for each cluster, whose name is the file's name without its suffix, "
        "a DNS label; files may appear, change and vanish",
    )
    executor_scan_s: float = Field(default=1.0, gt=0, description="time between looks at the directory, in seconds")
    executor_workers: int = Field(default=16, ge=1, description="subjects of one cluster that are worked on at once")
    executor_calls: int = Field(default=8, ge=1, description="requests of one subject that are under way at once")
    executor_all_calls: int = Field(
        default=128, ge=1, description="requests of all clusters of this process that are under way at once"
    )
    executor_call_timeout_s: float = Field(
        default=30.0, gt=0, description="deadline of one request to an API server, in seconds"
    )
    executor_resync_s: float = Field(
        default=300.0, gt=0, description="after this time everything is applied again, whatever is known, in seconds"
    )
    executor_backoff_s: float = Field(
        default=0.5, gt=0, description="ceiling of the wait after a first failure, in seconds; it doubles"
    )
    executor_backoff_max_s: float = Field(default=60.0, gt=0, description="longest wait after a failure, in seconds")
    executor_repair_s: float = Field(
        default=1.0, gt=0, description="wait before a second repair of the same object, in seconds; it doubles"
    )
    executor_repair_max_s: float = Field(default=300.0, gt=0, description="longest wait between repairs, in seconds")
    executor_inventory_s: float = Field(
        default=60.0,
        gt=0,
        description="time between two looks at all that is held, in seconds; it is published if it changed, else at "
        "every fifth",
    )
    executor_progress_deadline_s: float = Field(
        default=120.0, gt=0, description="how long a command may wait for something before that is reported, in seconds"
    )

    executor_node_group_s: float = Field(
        default=15.0, gt=0, description="time between two looks at a node group in which nothing happens, in seconds"
    )
    executor_node_group_busy_s: float = Field(
        default=2.0, gt=0, description="time between two looks at a node group that changes, in seconds"
    )
    executor_drain_s: float = Field(
        default=900.0,
        gt=0,
        description="how long a node that is to be removed may take to become empty, in seconds; then it stays",
    )
    executor_secrets_dir: Path | None = Field(
        default=None, description="directory with the keys of webhooks of node groups, a file for each, by its name"
    )
    executor_management_kubeconfig: Path | None = Field(
        default=None,
        description="kubeconfig of the cluster that has Cluster API's objects; without it each cluster has its own",
    )

    @model_validator(mode="after")
    def _one_source(self) -> ExecutorSettings:
        if self.executor_kubeconfig_dir and (self.executor_cluster or self.executor_kubeconfig):
            raise ValueError("either a directory of kubeconfigs or one cluster, not both")
        if not self.executor_kubeconfig_dir and not self.executor_cluster:
            raise ValueError("set FLOTILLA_EXECUTOR_CLUSTER, or FLOTILLA_EXECUTOR_KUBECONFIG_DIR")
        return self

    def policy(self) -> Policy:
        return Policy(
            backoff_base_ms=round(self.executor_backoff_s * 1000),
            backoff_cap_ms=round(self.executor_backoff_max_s * 1000),
            repair_base_ms=round(self.executor_repair_s * 1000),
            repair_cap_ms=round(self.executor_repair_max_s * 1000),
            resync_ms=round(self.executor_resync_s * 1000),
            progress_deadline_ms=round(self.executor_progress_deadline_s * 1000),
            look_ms=round(self.executor_node_group_s * 1000),
            busy_look_ms=round(self.executor_node_group_busy_s * 1000),
            drain_ms=round(self.executor_drain_s * 1000),
        )
