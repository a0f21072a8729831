"""What the simulator can be told, as FLOTILLA_SIMULATOR_* variables beside those of every service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from shared.runtime.settings import CommonSettings


class SimulatorSettings(CommonSettings):
    simulator_host: str = Field("127.0.0.1", description="Address to listen on.")
    simulator_port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
    simulator_advertise: str | None = Field(
        None, description="Host to write into kubeconfigs; by default the listening one."
    )
    simulator_kubeconfig_dir: Path = Field(
        Path("kubeconfigs"),
        description="Directory that gets a kubeconfig for each cluster while it is served; those without controllers "
        "(hubs) are in its folder `hubs`, where no agent takes them for a member of the fleet.",
    )
    simulator_clusters: Path | None = Field(
        None, description="YAML file of the clusters to start with (see README); none if unset."
    )
    simulator_provision: bool = Field(
        False, description="Also simulate every Cluster that is declared in fleet.clusters and that nobody has joined."
    )
    simulator_token: SecretStr | None = Field(
        None, description="Bearer token that every request must carry; none if unset."
    )
    simulator_tls_certificate: Path | None = Field(None, description="Certificate chain (PEM) to serve HTTPS with.")
    simulator_tls_key: Path | None = Field(None, description="Key (PEM) of the certificate.")
    simulator_tls_ca: Path | None = Field(None, description="Certificate authority (PEM) to write into kubeconfigs.")
    simulator_seed: str = Field("flotilla", description="Seed of generated names and jitter.")
    simulator_event_window: int = Field(
        10_000, ge=10, description="Events kept for each resource; a watch from before them gets 410."
    )
    simulator_watch_queue: int = Field(
        10_000, ge=1, description="Events a watcher may be behind before it is cut off and has to list again."
    )
    simulator_bookmark_seconds: float = Field(60.0, gt=0, description="How often idle watchers get a bookmark.")
