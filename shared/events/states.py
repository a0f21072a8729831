"""Which state of an object a record of `fleet.objects` shows, in the words in which digests are computed.

An API server gives every state of an object another resource version, and every object another uid: so the two name a
state, and nobody has to compare what is in it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from shared.model.identities import ObjectKey, Resource, is_object_key

# What stands in the log is no object: it is like no state of any.
MALFORMED: Final = "malformed"


class _Meta(msgspec.Struct, gc=False, rename="camel"):
    uid: str = ""
    resource_version: str = ""


class _Head(msgspec.Struct, gc=False):
    metadata: _Meta


_DECODER: Final = msgspec.json.Decoder(_Head)


def state_name(uid: str, resource_version: str) -> str:
    return f"{uid}/{resource_version}"


def state_of(value: bytes) -> str:
    """The state that a record's value shows; MALFORMED if it is no object."""
    try:
        meta = _DECODER.decode(value).metadata
    except (msgspec.DecodeError, UnicodeDecodeError):
        return MALFORMED
    return state_name(meta.uid, meta.resource_version)


def object_name(namespace: str, name: str) -> str:
    """What an object is called among those of its resource: `namespace/name`, or `-/name` without a namespace."""
    return f"{namespace or '-'}/{name}"


def split_key(key: bytes) -> tuple[str, Resource, str] | None:
    """Cluster, resource and the object's name from a key of `fleet.objects`; None if it names no object."""
    try:
        text = key.decode()
        parsed = ObjectKey.parse(text)
    except ValueError:
        return None
    if not is_object_key(text):
        return None
    return parsed.cluster, parsed.resource, object_name(parsed.namespace, parsed.name)
