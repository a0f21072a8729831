"""What can go wrong with the embedded servers, as types a caller can act on."""

from __future__ import annotations


class EmbeddedError(RuntimeError):
    """An embedded server could not be installed, started, reached or stopped."""


class PartsMissingError(EmbeddedError):
    """A part is not on this machine and cannot be had: a wheel is not installed or no repository is in reach.

    Tests may skip on this one (outside CI). Every other error is a defect and must fail.
    """


class DigestMismatchError(EmbeddedError):
    """A jar is not the one that the checked-in lock names."""


class StartError(EmbeddedError):
    """A server ended, or was not ready before its deadline; the message ends with the tail of its log."""
