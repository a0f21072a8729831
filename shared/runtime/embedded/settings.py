"""Where the embedded servers' downloads are kept and come from."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class EmbeddedSettings(BaseSettings):
    """Read from `FLOTILLA_*`; every value has a default that works on a bare machine."""

    model_config = SettingsConfigDict(env_prefix="FLOTILLA_", frozen=True, extra="ignore")

    cache: Path = Field(
        default_factory=lambda: Path.home() / ".cache" / "flotilla",
        description="Directory for what is downloaded or prepared once: Kafka's jars and the JVM's start-up cache.",
    )
    maven_repository: str | None = Field(
        default=None,
        description="Base URL of the Maven repository with Kafka's jars; unset means the public default of jgo.",
    )
    jvm_startup_cache: bool = Field(
        default=True,
        description="Record a start-up cache for the JVM at the first use (6 s, once): each start is 0.9 s faster.",
    )
