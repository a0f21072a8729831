"""Structured logs: a constant message, the facts as keys.

`json` for machines (the default where standard error is no terminal), `console` for people. Everything goes to standard
error; records of libraries pass through the same renderer. What a library says again and again, as the Kafka client
does while a broker is away, is said once in a while, with the number of repeats.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Final, Literal

import structlog

LogFormat = Literal["auto", "json", "console"]

_OWN_PACKAGES: Final = ("services", "shared")
_REPEAT_AFTER_S: Final = 30.0
_REMEMBERED: Final = 500


class RepeatsOfLibraries(logging.Filter):
    """Lets a library's message (one format string of one logger) through once in 30 s. Our own pass as they are."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int, str], float] = {}
        self._repeats: dict[tuple[str, int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in _OWN_PACKAGES:
            return True
        key, now = (record.name, record.levelno, str(record.msg)), time.monotonic()
        if now - self._last.get(key, -_REPEAT_AFTER_S) < _REPEAT_AFTER_S:
            self._repeats[key] = self._repeats.get(key, 0) + 1
            return False
        if len(self._last) >= _REMEMBERED:
            self._last.clear()
            self._repeats.clear()
        self._last[key] = now
        if repeats := self._repeats.pop(key, 0):
            record.msg = f"{record.getMessage()} (and {repeats} more like it)"
            record.args = ()
        return True


def configure_logs(service: str, *, level: str = "INFO", fmt: LogFormat = "auto") -> None:
    """Sets up structlog and the standard library's root logger; later calls replace earlier ones."""
    console = fmt == "console" or (fmt == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    tail: list[structlog.typing.Processor] = [] if console else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail, renderer],
        )
    )
    handler.addFilter(RepeatsOfLibraries())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Loggers bear their modules' names; what libraries say below a warning is left out.
    for package in _OWN_PACKAGES:
        logging.getLogger(package).setLevel(level.upper())
    structlog.contextvars.bind_contextvars(service=service)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger for one module; call it as `log.info("constant message", key=value)`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger
