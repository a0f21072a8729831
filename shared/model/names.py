"""Names and labels by the rules of Kubernetes.

Source: k8s.io/apimachinery/pkg/util/validation. Each check returns what is wrong in words, or None, so
that the caller can name the field; the annotated types raise the same words as a pydantic error.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

LABEL_MAX = 63
SUBDOMAIN_MAX = 253

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")


def dns_label_error(text: str) -> str | None:
    """RFC 1123 label: what is wrong with `text`, or None."""
    if len(text) > LABEL_MAX:
        return f"must be no more than {LABEL_MAX} characters"
    if not _DNS_LABEL.fullmatch(text):
        return "must consist of lower case letters, digits or '-', and start and end with a letter or digit"
    return None


def dns_subdomain_error(text: str) -> str | None:
    """RFC 1123 subdomain: what is wrong with `text`, or None."""
    if len(text) > SUBDOMAIN_MAX:
        return f"must be no more than {SUBDOMAIN_MAX} characters"
    if not _DNS_SUBDOMAIN.fullmatch(text):
        return "must consist of lower case letters, digits, '-' or '.', and start and end with a letter or digit"
    return None


def label_value_error(text: str) -> str | None:
    if len(text) > LABEL_MAX:
        return f"must be no more than {LABEL_MAX} characters"
    if text and not _LABEL_PART.fullmatch(text):
        return "must be empty or consist of letters, digits, '-', '_' or '.', and start and end with a letter or digit"
    return None


def label_key_error(text: str) -> str | None:
    """A qualified name: an optional DNS subdomain and a slash, then a name of at most 63 characters."""
    prefix, slash, name = text.rpartition("/")
    if slash:
        if not prefix:
            return "prefix part must be non-empty"
        if error := dns_subdomain_error(prefix):
            return f"prefix part {error}"
    if not name:
        return "name part must be non-empty"
    if len(name) > LABEL_MAX:
        return f"name part must be no more than {LABEL_MAX} characters"
    if not _LABEL_PART.fullmatch(name):
        return "name part must consist of letters, digits, '-', '_' or '.', and start and end with a letter or digit"
    return None


def _dns_label(text: str) -> str:
    if error := dns_label_error(text):
        raise ValueError(f"{text[:80]!r} {error}")
    return text


def _dns_subdomain(text: str) -> str:
    if error := dns_subdomain_error(text):
        raise ValueError(f"{text[:80]!r} {error}")
    return text


def _label_key(text: str) -> str:
    if error := label_key_error(text):
        raise ValueError(f"{text[:80]!r} {error}")
    return text


def _label_value(text: str) -> str:
    if error := label_value_error(text):
        raise ValueError(f"{text[:80]!r} {error}")
    return text


# The schemas say what the validators check, whose messages are better than a pattern's.
DnsLabel = Annotated[
    str,
    AfterValidator(_dns_label),
    Field(json_schema_extra={"pattern": f"^{_DNS_LABEL.pattern}$", "maxLength": LABEL_MAX}),
]
DnsSubdomain = Annotated[
    str,
    AfterValidator(_dns_subdomain),
    Field(json_schema_extra={"pattern": f"^{_DNS_SUBDOMAIN.pattern}$", "maxLength": SUBDOMAIN_MAX}),
]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
