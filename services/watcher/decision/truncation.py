"""What is published of an object that is too large for the log: its type and metadata."""

from __future__ import annotations

from typing import Final

import msgspec

_PARTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER: Final = msgspec.json.Encoder()


def only_metadata(raw: bytes, annotation: str) -> bytes:
    """The object's type and metadata; the annotation says that the rest is missing."""
    parts = _PARTS.decode(raw)
    metadata = _PARTS.decode(parts["metadata"])
    annotations = msgspec.json.decode(metadata.get("annotations", b"{}"), type=dict[str, str])
    metadata["annotations"] = msgspec.Raw(_ENCODER.encode({**annotations, annotation: "true"}))
    kept: dict[str, msgspec.Raw] = {key: parts[key] for key in ("kind", "apiVersion") if key in parts}
    kept["metadata"] = msgspec.Raw(_ENCODER.encode(metadata))
    return _ENCODER.encode(kept)
