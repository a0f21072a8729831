"""Apache Kafka's jars: downloaded once, exactly those that `kafka.lock` names.

Invariants:
- Nothing whose digest differs from the lock ever gets onto a class path. It is verified at each start (60 ms), not only
  after the download, so damage in the cache is found too.
- A directory of jars is complete: a download goes to a staging directory and appears by one rename.
- Its name contains the lock's digest, so checkouts with different locks share one cache.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from shared.runtime.embedded.errors import DigestMismatchError, EmbeddedError, PartsMissingError
from shared.runtime.embedded.lockfile import KAFKA_VERSION, LockedJar, lock_digest
from shared.runtime.embedded.mutex import exclusive
from shared.runtime.embedded.progress import Progress
from shared.runtime.embedded.repository import Repository, open_repository
from shared.runtime.embedded.settings import EmbeddedSettings

_DOWNLOAD_DEADLINE_S = 600.0
_PARALLEL = 8
_ATTEMPTS = 3
_FIRST_BACKOFF_S = 1.0
_STAGING = "staging-"


class _AbandonedError(Exception):
    """The download has no one to deliver to any more: cancelled, failed elsewhere, or past its deadline."""


async def install_jars(jars: tuple[LockedJar, ...], settings: EmbeddedSettings, progress: Progress) -> tuple[Path, ...]:
    """The locked jars as files, in the lock's order, downloaded if this machine has not got them.

    Raises:
        DigestMismatchError: a jar, just downloaded or in the cache, is not the locked one.
        PartsMissingError: they are not in the cache and no repository is in reach.
    """
    home = settings.cache / "kafka"
    target = home / f"{KAFKA_VERSION}-{lock_digest(jars)[:12]}"
    async with exclusive(home / ".installing"):
        if not target.exists():
            abandoned = threading.Event()
            try:
                await asyncio.to_thread(_download, jars, settings, target, progress, abandoned)
            finally:
                abandoned.set()  # a cancelled await leaves the thread behind: make it end
    await asyncio.to_thread(verify_jars, jars, target)
    return tuple(target / jar.filename for jar in jars)


def verify_jars(jars: tuple[LockedJar, ...], directory: Path) -> None:
    """Raises DigestMismatchError unless `directory` has each jar with the locked content."""
    for jar in jars:
        path = directory / jar.filename
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if found != jar.sha256:
            raise DigestMismatchError(
                f"{path} is not the locked {jar.coordinate}: expected SHA-256 {jar.sha256}, found {found}. "
                f"Remove {directory} if the cache was damaged; do not trust a fresh download that differs."
            )


def _download(
    jars: tuple[LockedJar, ...],
    settings: EmbeddedSettings,
    target: Path,
    progress: Progress,
    abandoned: threading.Event,
) -> None:
    for leftover in target.parent.glob(f"{_STAGING}*"):  # of a download that was killed; the lock is ours
        shutil.rmtree(leftover)
    total, done, guard = sum(jar.size for jar in jars), 0, threading.Lock()
    deadline = time.monotonic() + _DOWNLOAD_DEADLINE_S

    def on_bytes(count: int) -> None:
        nonlocal done
        if abandoned.is_set() or time.monotonic() > deadline:
            raise _AbandonedError
        with guard:
            done += count
            progress("Downloading Apache Kafka (once)", min(done, total), total)

    with tempfile.TemporaryDirectory(prefix=_STAGING, dir=target.parent) as staging:
        complete = Path(staging, "jars")
        complete.mkdir()
        repository = open_repository(settings, Path(staging, "repository"), on_bytes)
        for path in _fetch_all(jars, repository, abandoned):
            path.rename(complete / path.name)
        verify_jars(jars, complete)
        complete.rename(target)


def _fetch_all(jars: tuple[LockedJar, ...], repository: Repository, abandoned: threading.Event) -> tuple[Path, ...]:
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="jars") as pool:
        fetches = [pool.submit(_fetch, repository, abandoned, jar) for jar in jars]
        wait(fetches, return_when=FIRST_EXCEPTION)
        abandoned.set()  # all are here, or one is missing and without it the others are of no use
    errors = [error for fetch in fetches if (error := fetch.exception()) is not None]
    for error in errors:
        if not isinstance(error, _AbandonedError):  # those only follow from another error, or from the deadline
            raise error
    if errors:
        raise EmbeddedError(f"Apache Kafka's download was given up after {_DOWNLOAD_DEADLINE_S:g} s") from errors[0]
    return tuple(fetch.result() for fetch in fetches)


def _fetch(repository: Repository, abandoned: threading.Event, jar: LockedJar) -> Path:
    for attempt in range(_ATTEMPTS):
        if attempt and abandoned.wait(_FIRST_BACKOFF_S * 2**attempt):
            raise _AbandonedError
        try:
            return repository.fetch(jar.coordinate)
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors; jgo says "not found" by RuntimeError
            reason = error
    raise PartsMissingError(f"{jar.coordinate} could not be downloaded in {_ATTEMPTS} attempts: {reason}") from reason
