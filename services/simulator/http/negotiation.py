"""What representation a client wants: plain JSON, a table, metadata only, or aggregated discovery."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from services.simulator.core.errors import ApiError


@dataclass(frozen=True, slots=True)
class Representation:
    """`kind` is empty for the object itself, else Table, PartialObjectMetadata or APIGroupDiscoveryList."""

    kind: str = ""
    version: str = ""


_PLAIN = Representation()
_JSON_TYPES = frozenset({"application/json", "*/*", "application/*", "application/yaml", "text/plain", ""})
_KINDS = frozenset({"Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList"})


@lru_cache(maxsize=256)
def negotiate(accept: str) -> Representation:
    """The first representation of an Accept header that is served.

    Raises:
        ApiError: 406 when the client accepts none.
    """
    if not accept:
        return _PLAIN
    for part in accept.split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media not in _JSON_TYPES:
            continue
        values = dict(parameter.partition("=")[::2] for parameter in parameters)
        kind = values.get("as", "")
        if not kind:
            return _PLAIN
        if kind in _KINDS:
            return Representation(
                kind.removesuffix("List") if kind.startswith("Partial") else kind, values.get("v", "")
            )
    raise ApiError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml",
    )
