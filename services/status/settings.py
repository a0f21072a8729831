"""Settings of the status service."""

from __future__ import annotations

from pydantic import Field

from shared.runtime.settings import CommonSettings


class StatusSettings(CommonSettings):
    status_retention_s: float = Field(
        default=3600.0, gt=0, description="how long Deleted and Rejected statuses stay readable, in seconds"
    )
    status_batch: int = Field(default=2000, ge=1, le=100_000, description="records that are read at once, at most")
    status_tick_s: float = Field(
        default=1.0, gt=0, description="how often positions are committed and silent clusters looked for, in seconds"
    )
    status_silent_s: float = Field(
        default=15.0,
        gt=0,
        description="a standby works when the instance that replaced it shows no sign of life for so long, in seconds",
    )
    status_read_model_check_s: float = Field(
        default=5.0, gt=0, description="how often it is checked that Redis still has the read model, in seconds"
    )
    status_doubt_s: float = Field(
        default=300.0,
        gt=0,
        description="least time before a cluster is read anew, or doubted, again for the same resource, in seconds",
    )
    status_redis_timeout_s: float = Field(default=5.0, gt=0, description="deadline of one call to Redis, in seconds")
