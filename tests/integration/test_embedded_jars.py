"""Kafka's jars are exactly the locked ones, from whatever repository they come."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shared.runtime.embedded import DigestMismatchError, EmbeddedError, EmbeddedSettings, PartsMissingError
from shared.runtime.embedded import jars as jars_module
from shared.runtime.embedded.jars import install_jars
from shared.runtime.embedded.lockfile import LockedJar, read_lock
from shared.runtime.embedded.network import free_ports
from shared.runtime.embedded.progress import silent
from tests.fixtures.embedded import jar_directory


class TestJars:
    """On a real HTTP repository that serves jars of the cache, so that nothing here needs the internet."""

    @pytest.fixture
    def locked(self) -> tuple[LockedJar, ...]:
        return tuple(sorted(read_lock(), key=lambda jar: jar.size)[:3])

    @pytest.fixture
    def repository(self, parts: EmbeddedSettings, locked: tuple[LockedJar, ...], tmp_path: Path) -> Iterator[Path]:
        """A directory laid out as a Maven repository; its URL is in the file `url` beside it."""
        root = tmp_path / "repository"
        for jar in locked:
            path = root / _path_in_repository(jar)
            path.parent.mkdir(parents=True)
            shutil.copy(jar_directory(parts) / jar.filename, path)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(root)))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        (tmp_path / "url").write_text(f"http://127.0.0.1:{server.server_port}")
        yield root
        server.shutdown()
        server.server_close()
        thread.join(10)

    @pytest.fixture
    def settings(self, repository: Path, tmp_path: Path) -> EmbeddedSettings:
        assert repository
        return EmbeddedSettings(cache=tmp_path / "cache", maven_repository=(tmp_path / "url").read_text())

    async def test_installs_from_the_repository_once(
        self, settings: EmbeddedSettings, locked: tuple[LockedJar, ...], repository: Path
    ) -> None:
        reports: list[tuple[int, int]] = []
        first = await install_jars(locked, settings, lambda _step, done, total: reports.append((done, total)))
        assert [path.name for path in first] == [jar.filename for jar in locked]
        total = sum(jar.size for jar in locked)
        assert max(reports) == (total, total)
        shutil.rmtree(repository)
        assert await install_jars(locked, settings, silent) == first

    async def test_refuses_a_download_that_differs_and_keeps_nothing(
        self, settings: EmbeddedSettings, locked: tuple[LockedJar, ...], repository: Path
    ) -> None:
        _flip_last_byte(repository / _path_in_repository(locked[1]))
        with pytest.raises(DigestMismatchError, match=locked[1].coordinate):
            await install_jars(locked, settings, silent)
        assert list(settings.cache.rglob("*.jar")) == []

    async def test_refuses_a_jar_that_changed_in_the_cache(
        self, settings: EmbeddedSettings, locked: tuple[LockedJar, ...]
    ) -> None:
        installed = await install_jars(locked, settings, silent)
        _flip_last_byte(installed[2])
        with pytest.raises(DigestMismatchError, match=locked[2].coordinate):
            await install_jars(locked, settings, silent)

    async def test_a_repository_without_the_jar_is_a_missing_part(
        self,
        settings: EmbeddedSettings,
        locked: tuple[LockedJar, ...],
        repository: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(jars_module, "_FIRST_BACKOFF_S", 0.01)
        (repository / _path_in_repository(locked[0])).unlink()
        with pytest.raises(PartsMissingError, match=locked[0].coordinate):
            await install_jars(locked, settings, silent)
        assert list(settings.cache.rglob("*.jar")) == []

    async def test_without_a_repository_the_reason_is_that_parts_are_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jars_module, "_FIRST_BACKOFF_S", 0.01)
        (closed,) = free_ports(1)
        settings = EmbeddedSettings(cache=tmp_path, maven_repository=f"http://127.0.0.1:{closed}")
        with pytest.raises(PartsMissingError, match="could not be downloaded"):
            await install_jars(read_lock(), settings, silent)

    async def test_two_installations_at_once_download_once(
        self, settings: EmbeddedSettings, locked: tuple[LockedJar, ...]
    ) -> None:
        both = await asyncio.gather(*(install_jars(locked, settings, silent) for _ in range(2)))
        assert both[0] == both[1]

    def test_the_lock_names_each_jar_once_with_a_digest(self) -> None:
        lock = read_lock()
        assert len({jar.filename for jar in lock}) == len(lock) == 46
        assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in lock)

    def test_a_broken_lock_is_an_error_that_names_the_line(self, tmp_path: Path) -> None:
        path = tmp_path / "kafka.lock"
        path.write_text("# fine\nnot a jar\n")
        with pytest.raises(EmbeddedError, match=r"kafka\.lock:2"):
            read_lock(path)


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """The test's output is pytest's."""


def _path_in_repository(jar: LockedJar) -> Path:
    group, artifact, version = jar.coordinate.split(":")
    return Path(*group.split("."), artifact, version, jar.filename)


def _flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
