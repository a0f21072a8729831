"""Settings that every service has: FLOTILLA_* variables, each with a description.

A service's own settings extend `CommonSettings` and begin with the service's name (`watcher_heartbeat_s` is
`FLOTILLA_WATCHER_HEARTBEAT_S`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
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
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="the read model's Redis or Valkey; rediss:// for TLS, as redis://host:port/database",
    )
    redis_ca: str = Field(default="", description="file with the certificate authorities of a rediss:// server (PEM)")
    redis_certificate: str = Field(default="", description="file with this client's certificate (PEM), for mutual TLS")
    redis_key: str = Field(default="", description="file with this client's private key (PEM), for mutual TLS")
    redis_username: str = Field(default="", description="Redis user (ACL); empty is the default user")
    redis_password: SecretStr = Field(
        default=SecretStr(""), description="its password, where the URL should not have it"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least severe log level"
    )
    log_format: LogFormat = Field(default="auto", description="json, console, or auto: console on a terminal")
    http_host: str = Field(default="127.0.0.1", description="address of /healthz, /readyz and /metrics")
    http_port: int = Field(default=0, ge=-1, le=65535, description="its port; 0 picks a free one, -1 serves nothing")
    drain_s: float = Field(default=20.0, gt=0, description="how long a stopping service may take to finish, in seconds")

    @model_validator(mode="after")
    def _connections(self) -> Self:
        """What is left out or goes with nothing would be found as a time-out, or not at all."""
        tls, sasl = self.kafka_security.endswith("SSL"), self.kafka_security.startswith("SASL")
        kafka = {"CA": self.kafka_ca, "CERTIFICATE": self.kafka_certificate, "KEY": self.kafka_key}
        redis = {"CA": self.redis_ca, "CERTIFICATE": self.redis_certificate, "KEY": self.redis_key}
        _files("KAFKA", kafka, "FLOTILLA_KAFKA_SECURITY=SSL or SASL_SSL", used=tls)
        _files("REDIS", redis, "rediss:// in FLOTILLA_REDIS_URL", used=self.redis_url.startswith("rediss://"))
        for name, given in (("USERNAME", self.kafka_username), ("PASSWORD", self.kafka_password.get_secret_value())):
            if sasl and not given:
                raise ValueError(f"FLOTILLA_KAFKA_{name} is needed with FLOTILLA_KAFKA_SECURITY={self.kafka_security}")
            if given and not sasl:
                raise ValueError(f"FLOTILLA_KAFKA_{name} needs FLOTILLA_KAFKA_SECURITY=SASL_SSL or SASL_PLAINTEXT")
        return self


def _files(server: str, files: dict[str, str], wanted: str, *, used: bool) -> None:
    for name, path in files.items():
        if path and not used:
            raise ValueError(f"FLOTILLA_{server}_{name} needs {wanted}")
        if path and not Path(path).is_file():
            raise ValueError(f"FLOTILLA_{server}_{name}: there is no file {path}")
    if bool(files["CERTIFICATE"]) != bool(files["KEY"]):
        raise ValueError(f"FLOTILLA_{server}_CERTIFICATE and FLOTILLA_{server}_KEY go together")
