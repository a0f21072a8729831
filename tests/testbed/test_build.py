"""The build: named after its pins, atomic, made once however many ask, and clear about what it lacks.

Compiling takes minutes, so here a script stands in for the go command; the locks, renames and messages are the real
ones, and the binaries of the other tests were built by the real command.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed import installation
from tests.testbed.process import REPOSITORY

GO = """#!/bin/sh
case "$1" in
  version) echo "go version go1.26.0 test/test" ;;
  mod) [ -z "$OFFLINE" ] || { echo "no route to the modules" >&2; exit 1; } ;;
  list) if [ "$2" = -m ]; then echo "$MODULES/$(basename "$5")"; else echo one two three; fi ;;
  build)
    echo built >> "$MODULES/builds"
    sleep 1
    [ -z "$BREAK" ] || { echo "undefined: something" >&2; exit 2; }
    while [ "$1" != -o ]; do shift; done
    for name in server kube-apiserver kube-controller-manager kube-scheduler kubectl kwok; do
      echo x > "$2$name"
    done ;;
esac
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A cache of its own and a go command that counts its builds."""
    go = tmp_path / "go"
    go.write_text(GO)
    go.chmod(0o755)
    modules = tmp_path / "modules"
    for stage in installation.STAGES:
        (modules / "kwok" / stage).parent.mkdir(parents=True, exist_ok=True)
        (modules / "kwok" / stage).write_text("kind: Stage\n")
    for package in ("api/core/v1", "apimachinery/pkg/runtime"):
        (modules / package).mkdir(parents=True)
        for name in ("generated.proto", "types.go", "register.go"):
            (modules / package / name).write_text(f"// {package}\n")
    return {**os.environ, "FLOTILLA_CACHE": str(tmp_path / "cache"), "FLOTILLA_GO": str(go), "MODULES": str(modules)}


def _build(environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.testbed.build"],
        cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_concurrent_builds_make_one(environment: dict[str, str], tmp_path: Path) -> None:
    outputs = [process.communicate(timeout=180) for process in [_build(environment) for _ in range(3)]]

    paths = {out for out, _ in outputs}
    assert len(paths) == 1
    listed = [Path(line) for line in paths.pop().splitlines()]
    assert [path.name for path in listed] == list(installation.BINARIES)
    assert all(path.is_file() for path in listed)
    assert {p.name for p in (listed[0].parents[1] / "stages").iterdir()} == {Path(s).name for s in installation.STAGES}
    assert (tmp_path / "modules" / "builds").read_text() == "built\n"


def test_the_wire_sources_are_kept_beside_the_binaries(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOTILLA_CACHE", environment["FLOTILLA_CACHE"])
    with pytest.raises(installation.MissingBinariesError, match=r"python -m tests\.testbed\.build"):
        installation.wire_sources()
    assert _build(environment).wait(180) == 0

    kept = installation.wire_sources()
    version = installation.pinned("k8s.io/api")
    assert {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()} == {
        f"{package}/{name}"
        for package in (f"api@{version}/core/v1", f"apimachinery@{version}/pkg/runtime")
        for name in ("generated.proto", "types.go")
    }
    # What is there needs neither Go nor a network.
    (tmp_path / "go").unlink()
    assert _build(environment).wait(180) == 0


def test_binaries_without_the_wire_sources_get_them_alone(environment: dict[str, str], tmp_path: Path) -> None:
    process = _build({**environment, "OFFLINE": "1"})
    _, complaint = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "no route to the modules" in complaint
    found = sorted(path.name for path in (tmp_path / "cache" / "testbed").iterdir())
    assert found == sorted([installation.installation().name, "lock"])

    assert _build(environment).wait(180) == 0
    assert (tmp_path / "modules" / "builds").read_text() == "built\n"


def test_failed_build_leaves_nothing_and_says_why(environment: dict[str, str], tmp_path: Path) -> None:
    process = _build({**environment, "BREAK": "1"})
    _, complaint = process.communicate(timeout=180)

    assert process.returncode == 1
    assert "undefined: something" in complaint
    assert [path.name for path in (tmp_path / "cache" / "testbed").iterdir()] == ["lock"]


def test_go_that_is_too_old_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "go").write_text("#!/bin/sh\necho 'go.mod requires go >= 1.26.0 (running go 1.19)' >&2; exit 1\n")
    process = _build(environment)
    _, complaint = process.communicate(timeout=180)

    assert process.returncode == 1
    assert "needs Go 1.26.0 or later" in complaint
    assert "running go 1.19" in complaint


def test_directory_follows_the_pins_and_not_the_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (installation.MODULE / "go.mod").read_text()
    (tmp_path / "go.sum").write_text("")
    monkeypatch.setattr(installation, "MODULE", tmp_path)

    def named(go_mod: str) -> str:
        (tmp_path / "go.mod").write_text(go_mod)
        return installation.installation().name

    assert named(text) == named("// another comment\n" + text)
    assert named(text) != named(text.replace("sigs.k8s.io/kwok v0.8.0", "sigs.k8s.io/kwok v0.8.1"))


def test_missing_binaries_say_how_to_build_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOTILLA_CACHE", str(tmp_path))
    with pytest.raises(installation.MissingBinariesError, match=r"python -m tests\.testbed\.build"):
        installation.binaries()
