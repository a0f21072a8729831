"""What an API server's refusal means to who wanted nodes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared.model.node_groups import FORBIDDEN, NOT_FOUND, PROVIDER_UNAVAILABLE, REFUSED
from shared.ports.cluster_api import ApiError
from shared.ports.node_groups import ProviderError

_REASONS = {401: FORBIDDEN, 403: FORBIDDEN, 404: NOT_FOUND}


@contextmanager
def as_provider_error() -> Iterator[None]:
    """Raises ProviderError instead of ApiError."""
    try:
        yield
    except ApiError as error:
        reason = PROVIDER_UNAVAILABLE if error.retryable else _REASONS.get(error.code, REFUSED)
        raise ProviderError(reason, f"{error.code} {error.reason}: {error.message}"[:512]) from error
