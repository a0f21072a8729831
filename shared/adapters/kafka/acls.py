"""Creates ACLs at the broker. The client has the requests and no call for them, so they are sent one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import CreateAclsRequest

from shared.adapters.kafka.lifecycle import ended
from shared.adapters.kafka.options import KafkaOptions
from shared.events.acls import Acl
from shared.ports.event_log import LogError

# Kafka's codes (org.apache.kafka.common.{resource,acl}).
_RESOURCES: Final = {"topic": 2, "group": 3, "transactional-id": 5}
_PATTERNS: Final = {"literal": 3, "prefixed": 4}
_OPERATIONS: Final = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8}
_ALLOW: Final = 3


async def ensure_acls(options: KafkaOptions, acls: Iterable[Acl]) -> int:
    """Creates those that are missing; one that is there is as good. Returns how many operations are allowed.

    Raises:
        LogError: the broker refused one, or did not answer within the deadline of a request.
    """
    admin = AIOKafkaAdminClient(**options.client_arguments("acls-admin"))
    allowed = 0
    try:
        await admin.start()
        for acl in acls:
            for operation in acl.operations:
                async with asyncio.timeout(options.timeout_s):
                    await _create(admin, acl, operation)
                allowed += 1
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogError(f"ACLs were not created: {error!r}") from error
    finally:
        await ended(admin.close(), options.timeout_s)
    return allowed


async def _create(admin: AIOKafkaAdminClient, acl: Acl, operation: str) -> None:
    request = CreateAclsRequest(
        _RESOURCES[acl.resource],
        acl.name,
        _PATTERNS[acl.pattern],
        f"User:{acl.principal}",
        "*",
        _OPERATIONS[operation],
        _ALLOW,
    )
    response = await admin._send_request(request)
    for code, message in response.creation_responses:
        if code:
            raise LogError(f"{acl.document()}: {for_code(code).__name__} {message or ''}")
