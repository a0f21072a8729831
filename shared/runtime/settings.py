"""Settings that every service has: FLOTILLA_* variables, each with a description.

A service's own settings extend `CommonSettings` and begin with the service's name (`watcher_heartbeat_s` is
`FLOTILLA_WATCHER_HEARTBEAT_S`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.model.names import dns_label_error
from shared.observability.logs import LogFormat


def _cluster_name(text: str) -> str:
    if text and (error := dns_label_error(text)):
        raise ValueError(error)
    return text


# A DNS label, as the name of the hub's Cluster object is; or empty.
ClusterName = Annotated[str, AfterValidator(_cluster_name)]


class CommonSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FLOTILLA_", frozen=True, extra="ignore")

    kafka_bootstrap: str = Field(default="127.0.0.1:9092", description="bootstrap servers, host:port, comma-separated")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="security protocol of the broker's listener"
    )
    kafka_ca: str = Field(default="", description="file with the certificate authorities of the broker (PEM)")
    kafka_certificate: str = Field(default="", description="file with this client's certificate (PEM), for mutual TLS")
    kafka_key: str = Field(default="", description="file with this client's private key (PEM), for mutual TLS")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="SASL mechanism, with a SASL security protocol"
    )
    kafka_username: str = Field(default="", description="SASL user name")
    kafka_password: SecretStr = Field(default=SecretStr(""), description="SASL password")
    kafka_replication: int = Field(default=1, ge=1, description="replication factor of the topics that are created")
    kafka_timeout_s: float = Field(default=30.0, gt=0, description="deadline of one request to the broker, in seconds")
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", description="the read model's Redis or Valkey")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least severe log level"
    )
    log_format: LogFormat = Field(default="auto", description="json, console, or auto: console on a terminal")
    http_host: str = Field(default="127.0.0.1", description="address of /healthz, /readyz and /metrics")
    http_port: int = Field(default=0, ge=-1, le=65535, description="its port; 0 picks a free one, -1 serves nothing")
    drain_s: float = Field(default=20.0, gt=0, description="how long a stopping service may take to finish, in seconds")
