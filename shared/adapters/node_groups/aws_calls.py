"""Calls to AWS by boto3, which blocks: in threads, with deadlines, and with refusals in the words of the port.

Credentials come from boto3's default chain (a role of the service account, an instance's role, the environment), never
from a `Cluster`. Each call ends by botocore's own deadlines, the ones it makes for credentials as well, since these
are the session's defaults. botocore tries nothing again: who calls looks first what became of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ValidationError,
)

from shared.model.node_groups import (
    FORBIDDEN,
    NOT_FOUND,
    OUT_OF_STOCK,
    PROVIDER_UNAVAILABLE,
    REFUSED,
    is_out_of_stock,
)
from shared.ports.node_groups import ProviderError

_WORKERS: Final = 8
_CONNECT_S: Final = 3.0
_READ_S: Final = 8.0
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_NOT_FOUND: Final = frozenset({"ResourceNotFoundException", "NotFoundException"})
_FORBIDDEN: Final = frozenset({
    "AccessDenied", "AccessDeniedException", "AuthFailure", "ExpiredToken", "ExpiredTokenException",
    "IDPRejectedClaim", "InvalidClientTokenId", "InvalidIdentityToken", "OptInRequired", "SignatureDoesNotMatch",
    "UnauthorizedOperation", "UnrecognizedClientException",
})  # fmt: skip
# Time heals these: throttling, and another change that is under way.
_PASSING: Final = frozenset({
    "InternalError", "InternalFailure", "PriorRequestNotComplete", "RequestLimitExceeded", "RequestThrottled",
    "RequestThrottledException", "ResourceContention", "ScalingActivityInProgress", "ServerException",
    "ServiceUnavailable", "ServiceUnavailableException", "SlowDown", "Throttling", "ThrottledException",
    "ThrottlingException", "TooManyRequestsException",
})  # fmt: skip


class AwsConnection:
    """Clients by region and service, which all callers share. `endpoint` stands in for AWS's own, for all services."""

    def __init__(self, *, endpoint: str | None = None, connect_s: float = _CONNECT_S, read_s: float = _READ_S) -> None:
        self._endpoint = endpoint
        self._config = Config(
            connect_timeout=connect_s,
            read_timeout=read_s,
            retries={"total_max_attempts": 1},
            max_pool_connections=_WORKERS,
        )
        self._clients: dict[tuple[str, str], Any] = {}
        self._sessions: dict[str, boto3.Session] = {}
        # Sessions are not for several threads; clients are.
        self._making = threading.Lock()
        self._threads = ThreadPoolExecutor(_WORKERS, thread_name_prefix="aws")

    def caller(self, region: str) -> AwsCaller:
        return AwsCaller(self, region)

    def submit(
        self, region: str, service: str, operation: str, arguments: Mapping[str, Any]
    ) -> Future[Mapping[str, Any]]:
        return self._threads.submit(self._answer, region, service, operation, arguments)

    async def close(self) -> None:
        """Waits for calls under way, as long as their deadlines are; no others begin."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    def _answer(self, region: str, service: str, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """In a thread. Raises ProviderError and nothing else."""
        what = f"AWS {operation}"
        try:
            answer: Mapping[str, Any] = getattr(self._client(region, service), operation)(**arguments)
        except ClientError as error:
            raise _refusal(what, error.response) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise ProviderError(FORBIDDEN, f"{what}: {error}"[:512]) from error
        except (ParamValidationError, ValidationError) as error:
            raise ProviderError(REFUSED, f"{what}: {error}"[:512]) from error
        except (BotoCoreError, OSError) as error:
            # OSError: a token's file that cannot be read.
            raise ProviderError(PROVIDER_UNAVAILABLE, f"{what}: {type(error).__name__}: {error}"[:512]) from error
        return answer

    def _client(self, region: str, service: str) -> Any:
        with self._making:
            if region not in self._sessions:
                core = botocore.session.Session()
                core.set_default_client_config(self._config)
                self._sessions[region] = boto3.Session(region_name=region, botocore_session=core)
            key = region, service
            if key not in self._clients:
                self._clients[key] = self._sessions[region].client(service, endpoint_url=self._endpoint)
            return self._clients[key]


class AwsCaller:
    """Calls to one region, one at a time, by one event loop.

    The next one waits also for one whose caller has given up: a thread cannot be ended, and what it asked for may still
    be done.
    """

    def __init__(self, connection: AwsConnection, region: str) -> None:
        self._connection = connection
        self._region = region
        self._turn = asyncio.Lock()

    async def call(self, service: str, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """The answer. Raises ProviderError."""
        await self._turn.acquire()
        loop = asyncio.get_running_loop()
        try:
            answer = self._connection.submit(self._region, service, operation, arguments)
        except RuntimeError as error:
            self._turn.release()
            raise ProviderError(PROVIDER_UNAVAILABLE, f"AWS {operation}: closed") from error
        answer.add_done_callback(lambda _: loop.call_soon_threadsafe(self._turn.release))
        return await asyncio.wrap_future(answer)


def _refusal(what: str, response: Mapping[str, Any]) -> ProviderError:
    code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    reason = REFUSED
    if is_out_of_stock(f"{code} {message}"):
        reason = OUT_OF_STOCK
    elif code in _NOT_FOUND:
        reason = NOT_FOUND
    elif code in _FORBIDDEN:
        reason = FORBIDDEN
    elif code in _PASSING or status == _TOO_MANY or status >= _SERVER_ERROR:
        reason = PROVIDER_UNAVAILABLE
    return ProviderError(reason, f"{what}: {code}: {message}"[:512])
