"""Build the test bed's binaries once, into a cache outside the checkout: `python -m tests.testbed.build`.

The same command keeps the few sources that a test reads (`wire_sources`), since a finished build needs no module cache.

Invariants:

- What is built is what `go.mod` and `go.sum` pin; `installation` names the directory after them.
- The directory appears by a rename when it is complete. A killed build leaves nothing that looks finished.
- A lock lets one of several concurrent builds work while the others wait for its result.
- A finished build is found without Go and without a network.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.testbed.installation import (
    BINARIES,
    MODULE,
    STAGES,
    WIRE_MODULES,
    installation,
    link_flags,
    pinned,
    wire_directory,
)

BUILD_DEADLINE_S: Final = 3600.0
PROGRESS_EVERY_S: Final = 20.0
GO_NEEDED: Final = """The real test bed is built from Go modules and needs Go {wanted} or later ({found}).
Put `go` on the PATH or in /usr/local/go/bin, or name it in $FLOTILLA_GO. Go 1.21 or later is enough where
GOTOOLCHAIN is not `local`: it fetches the toolchain that go.mod names."""


class BuildError(RuntimeError):
    """The build cannot start or failed; the message is for a person."""


def build() -> Path:
    """Build what is missing and return the installation; safe to call from several processes."""

    def make(complete: Path) -> None:
        go = find_go()
        _compile(go, complete / "bin")
        _copy_stages(go, complete / "stages")

    return made_once(installation(), make)


def keep_wire_sources() -> Path:
    """Copy what says how Kubernetes' protobuf looks out of its modules, where that was not done yet.

    Apart from `build`, so that a machine with the binaries alone can go on running them without Go.
    """

    def make(complete: Path) -> None:
        go = find_go()
        run_go(go, "mod", "download", *WIRE_MODULES)
        for module in WIRE_MODULES:
            source = Path(run_go(go, "list", "-m", "-f", "{{.Dir}}", module).strip())
            _copy_wire(source, complete / f"{Path(module).name}@{pinned(module)}")

    return made_once(wire_directory(), make)


def _copy_wire(source: Path, output: Path) -> None:
    packages = [proto.parent for proto in source.rglob("generated.proto")]
    if not packages:
        raise BuildError(f"{source} has no generated.proto")
    for package in packages:
        folder = output / package.relative_to(source)
        folder.mkdir(parents=True)
        for path in (package / "generated.proto", *package.glob("*types*.go")):
            shutil.copyfile(path, folder / path.name)


def made_once(target: Path, make: Callable[[Path], None], lock: str = "lock") -> Path:
    """The file or directory `target`, made if it is missing: `make` is given where, and it appears when it is complete.

    Safe to call from several processes: one works, and the others wait for its result. Raises BuildError.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent / lock):
        if not target.exists():  # else another process made it while this one waited
            with tempfile.TemporaryDirectory(prefix=".building-", dir=target.parent) as temporary:
                complete = Path(temporary) / "complete"
                make(complete)
                complete.rename(target)
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    deadline = time.monotonic() + BUILD_DEADLINE_S
    with path.open("w") as handle:
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BuildError(f"another build held {path} for {BUILD_DEADLINE_S:.0f} s") from None
                if not told:
                    _say("another process is building the test bed; waiting for it")
                    told = True
                time.sleep(0.5)
        yield  # closing the file releases the lock, also when this process is killed


def find_go(module: Path = MODULE) -> str:
    """The go command, able to build this module (perhaps by switching its toolchain)."""
    candidates = [os.environ.get("FLOTILLA_GO"), shutil.which("go"), "/usr/local/go/bin/go"]
    go = next((c for c in candidates if c and Path(c).is_file()), None)
    found = re.search(r"^go (\S+)", (module / "go.mod").read_text(), re.MULTILINE)
    wanted = found.group(1) if found else "?"
    if go is None:
        raise BuildError(GO_NEEDED.format(wanted=wanted, found="none was found"))
    probe = subprocess.run([go, "version"], cwd=module, capture_output=True, text=True, timeout=600, check=False)
    if probe.returncode != 0:
        raise BuildError(GO_NEEDED.format(wanted=wanted, found=f"{go}: {probe.stderr.strip()}"))
    _say(f"building with {probe.stdout.strip()} ({go})")
    return go


def _environment() -> dict[str, str]:
    # Static binaries need no C compiler on the machine; a workspace of the caller's must not change what is built.
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}


def _compile(go: str, output: Path) -> None:
    """One `go build` for everything, so that both cores stay busy and shared packages are compiled once."""
    output.mkdir(parents=True)
    total = len(run_go(go, "list", "-deps", "tool").split())
    started = time.monotonic()
    _say(f"compiling at most {total} packages into {output}: about 5 minutes on 2 idle cores the first time")
    command = [go, "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", link_flags()]
    with subprocess.Popen(
        [*command, "-o", f"{output}{os.sep}", "tool"],
        cwd=MODULE, env=_environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        _follow(process, total, started)
    (output / "server").rename(output / "etcd")  # etcd's main package is the root of its server module
    missing = [name for name in BINARIES if not (output / name).is_file()]
    if missing:
        raise BuildError(f"go build succeeded without making {', '.join(missing)}")
    _say(f"built in {time.monotonic() - started:.0f} s")


def _follow(process: subprocess.Popen[str], total: int, started: float) -> None:
    """Print progress until the compiler ends; raise with the end of what it said if it failed."""
    lines: collections.deque[str] = collections.deque(maxlen=40)
    compiled = 0

    def drain() -> None:
        nonlocal compiled
        for line in process.stderr or ():
            lines.append(line)
            compiled += 1

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # the timeout is the next line of progress
                process.wait(PROGRESS_EVERY_S)
            elapsed = time.monotonic() - started
            _say(f"{elapsed:4.0f} s: compiled {compiled} of at most {total} packages")
            if elapsed > BUILD_DEADLINE_S:
                raise BuildError(f"go build did not end within {BUILD_DEADLINE_S:.0f} s")
    finally:
        if process.poll() is None:
            process.terminate()
        reader.join(10)
    if process.returncode != 0:
        raise BuildError("go build failed:\n" + "".join(lines))


def _copy_stages(go: str, output: Path) -> None:
    output.mkdir(parents=True)
    kwok = Path(run_go(go, "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok").strip())
    for stage in STAGES:
        shutil.copyfile(kwok / stage, output / Path(stage).name)


def run_go(go: str, *arguments: str, module: Path = MODULE, nice: int = 0, timeout_s: float = 1200) -> str:
    """What the go command says in a module. `nice` is added to our own. Raises BuildError."""
    done = subprocess.run(
        ["nice", "-n", str(nice), go, *arguments],
        cwd=module, env=_environment(), capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise BuildError(f"go {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout


def _say(message: str) -> None:
    print(f"testbed: {message}", file=sys.stderr, flush=True)


def main() -> int:
    try:
        directory = build()
        keep_wire_sources()
    except BuildError as error:
        _say(str(error))
        return 1
    for name in BINARIES:
        print(directory / "bin" / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
