"""numba takes compiled code from a directory in which it may not write, and does without where there is none."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numba.core import config
from numba.core.caching import IndexDataCacheFile

from services.scheduler.baked_cache import BakedCacheLocator, without_addresses
from services.scheduler.decision.scoring.kernel import compiled

LOCATOR = f"{BakedCacheLocator.__module__}.{BakedCacheLocator.__qualname__}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which numba keeps what it compiles meanwhile."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    # Where numba looks next.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "cache"


@pytest.fixture
def baked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_LOCATOR_CLASSES", LOCATOR)


def make_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system as numba meets it that is read only: root may write whatever the mode of a directory says."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(IndexDataCacheFile, "_open_for_write", refuse)


BODY = "def twice(x):\n    return 2 * x\n"


def imported(directory: Path, kind: str = "int64", body: str = BODY) -> Any:
    """A module with one compiled function, as if by a new process; `kind` is what it takes and gives."""
    (directory / "doubling.py").write_text(body)
    sys.modules.pop("doubling", None)
    importlib.invalidate_caches()
    module = importlib.import_module("doubling")
    return compiled(f"{kind}({kind})")(module.twice)


def hits(function: Any) -> int:
    """How often it was read from the cache instead of being compiled."""
    return sum(function.stats.cache_hits.values())


def test_what_was_compiled_is_used_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hits(imported(tmp_path)) == 0
    make_read_only(monkeypatch)
    assert hits(imported(tmp_path)) == 0, "numba's own locators would do"
    monkeypatch.setattr(config, "CACHE_LOCATOR_CLASSES", LOCATOR)
    function = imported(tmp_path)
    assert hits(function) == 1
    assert function(21) == 42


def test_what_is_not_there_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported(tmp_path)
    make_read_only(monkeypatch)
    monkeypatch.setattr(config, "CACHE_LOCATOR_CLASSES", LOCATOR)
    function = imported(tmp_path, "float64")
    assert hits(function) == 0
    assert function(0.5) == 1.0


@pytest.mark.usefixtures("baked")
def test_nothing_was_compiled(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_read_only(monkeypatch)
    assert imported(tmp_path)(21) == 42
    assert not cache.exists()


def test_addresses_are_counted_through(tmp_path: Path) -> None:
    (tmp_path / "scoring").mkdir()
    first, second = tmp_path / "scoring" / "a.nbc", tmp_path / "scoring" / "b.nbc"
    first.write_bytes(b"\x00f at 0x7fccfa10fce0\xff g_0x7f8ec4a4fce0B4")
    second.write_bytes(b"0x7f8ec4a4fce0 0xff 0x7fccfa10fce01")
    without_addresses(tmp_path)
    assert first.read_bytes() == b"\x00f at 0x000000000001\xff g_0x000000000002B4"
    assert second.read_bytes() == b"0x000000000002 0xff 0x7fccfa10fce01"


def test_numbered_code_still_runs(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "def twice(x):\n    return x + x * 2.0 - x / 2.0\n"  # an array expression, which is named by an address
    kind = "float64[::1]"
    imported(tmp_path, kind, body)
    before = [path.read_bytes() for path in sorted(cache.rglob("*.nbc"))]
    without_addresses(cache)
    assert [path.read_bytes() for path in sorted(cache.rglob("*.nbc"))] != before
    make_read_only(monkeypatch)
    monkeypatch.setattr(config, "CACHE_LOCATOR_CLASSES", LOCATOR)
    function = imported(tmp_path, kind, body)
    assert hits(function) == 1
    assert function(np.array([2.0, 4.0])).tolist() == [5.0, 10.0]
