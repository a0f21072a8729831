"""Server processes: starting, recognising, waiting for and stopping them.

Invariants:
- A process is known by its pid *and* its start time, so a pid that the system gave to someone else is never signalled.
- A server holds an exclusive lock on its data directory for as long as it lives (the descriptor is inherited), so two
  servers can never write the same data, whoever started them.
- An attached server ends with the process that started it, even if that is killed (Linux; see `tethered`). A
  detached one lives on and is stopped through its `ProcessId`.
- Servers run in a session of their own: Ctrl-C reaches whoever started them, who stops them in order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.runtime.embedded import tethered
from shared.runtime.embedded.errors import EmbeddedError, StartError
from shared.runtime.embedded.mutex import try_lock
from shared.runtime.embedded.waiting import until

_KILL_DEADLINE_S = 10.0
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be confused with a later one of the same pid."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this pid now; None if there is none (a zombie has ended and counts as none)."""
        started = _start_time(pid)
        return None if started is None else cls(pid, started)

    @property
    def alive(self) -> bool:
        return _start_time(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, to this process only; nothing happens if it has ended."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return  # ended between the check and the signal: what the caller wanted


class ServerProcess:
    """A child process that serves. Start it with `spawn`."""

    def __init__(self, child: subprocess.Popen[bytes], identity: ProcessId, logs: tuple[Path, ...]) -> None:
        self._child = child
        self.identity = identity
        self._logs = logs

    @classmethod
    def spawn(
        cls,
        command: Sequence[str],
        *,
        data_dir: Path,
        console: Path,
        logs: Sequence[Path] = (),
        detached: bool,
        env: Mapping[str, str] | None = None,
    ) -> ServerProcess:
        """Start `command` in `data_dir`, its output to `console` (made new at each start).

        Not a coroutine on purpose: the kernel ties "dies with its parent" to the *thread* that forks, so this must
        run on a thread that lasts, not on an executor's.
        """
        data_dir.mkdir(parents=True, exist_ok=True)
        console.parent.mkdir(parents=True, exist_ok=True)
        argv = list(command)
        if not detached:
            argv = [sys.executable, "-I", "-S", tethered.__file__, str(os.getpid()), *argv]
        lock = _lock_directory(data_dir)
        try:
            with console.open("wb") as output:
                child = subprocess.Popen(  # noqa: S603 (our own command line, no shell)
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=data_dir,
                    env=env,
                    pass_fds=(lock,),
                    start_new_session=True,
                )
            os.truncate(lock, 0)
            os.pwrite(lock, b"%d\n" % child.pid, 0)
        finally:
            os.close(lock)  # the child's copy keeps the lock
        identity = ProcessId.of(child.pid)
        if identity is None:  # it has ended already; its output says why
            child.wait()
            raise StartError(f"{command[0]} ended at once{log_tail(console)}")
        return cls(child, identity, (console, *logs))

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def tail(self) -> str:
        return log_tail(*self._logs)

    async def wait_ready(self, probe: Callable[[], Awaitable[bool]], *, name: str, deadline_s: float) -> None:
        """Return when `probe` says that the server answers.

        Raises:
            StartError: the process ended or the deadline passed.
        """

        async def ready() -> bool:
            if not self.running:
                raise StartError(f"{name} ended with {self._child.returncode}{self.tail()}")
            return await probe()

        if not await until(ready, within_s=deadline_s):
            raise StartError(f"{name} was not ready after {deadline_s:g} s{self.tail()}")

    async def wait(self, *, deadline_s: float) -> int:
        """The exit status of a process that is expected to end; raises StartError if it has not by the deadline."""
        if not await _ended(self.identity, deadline_s):
            raise StartError(f"process {self.identity.pid} did not end within {deadline_s:g} s{self.tail()}")
        return self._child.wait(_KILL_DEADLINE_S)

    async def stop(self, *, grace_s: float) -> None:
        """TERM, then KILL after the grace; when this returns or raises, even by cancellation, the process has ended."""
        try:
            await terminate(self.identity, grace_s=grace_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL and reap: the crash that tests want, and the last resort of `stop`."""
        if self.running:
            self._child.kill()
        self._child.wait(_KILL_DEADLINE_S)


async def terminate(identity: ProcessId, *, grace_s: float) -> None:
    """TERM, wait, KILL after the grace, wait: for any process of ours, also one that an earlier command started."""
    identity.signal(signal.SIGTERM)
    if await _ended(identity, grace_s):
        return
    identity.signal(signal.SIGKILL)
    if not await _ended(identity, _KILL_DEADLINE_S):
        raise EmbeddedError(f"process {identity.pid} did not end {_KILL_DEADLINE_S:g} s after SIGKILL")


def log_tail(*logs: Path, lines: int = 30) -> str:
    """The last lines of each log that has any, each under its path; starts with a line break."""
    parts = [""]
    for log in logs:
        if not log.is_file():
            continue
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = stream.read().decode(errors="replace").splitlines()[-lines:]
        if text:
            parts += [f"--- {log}", *text]
    return "\n".join(parts)


async def _ended(identity: ProcessId, within_s: float) -> bool:
    async def ended() -> bool:
        return not identity.alive

    return await until(ended, within_s=within_s)


def check_unused(data_dir: Path) -> None:
    """Raises EmbeddedError if a server, whoever started it, works on this directory."""
    os.close(_lock_directory(data_dir))


def _lock_directory(data_dir: Path) -> int:
    descriptor = os.open(data_dir / ".in-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if try_lock(descriptor):
        return descriptor
    holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
    os.close(descriptor)
    raise EmbeddedError(f"{data_dir} is in use by process {holder}; stop that first")


def _start_time(pid: int) -> str | None:
    if sys.platform == "linux":
        return _linux_start_time(pid)
    # `ps` has it on every Unix, in whole seconds, which pid reuse does not beat in practice.
    found = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=5, check=False
    )
    state, _, started = found.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def _linux_start_time(pid: int) -> str | None:
    """Ticks since boot, with the boot's id: exact, and unmoved when the clock is set."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, the command's name, is in parentheses and may contain anything, so count from its end.
    fields = stat[stat.rindex(")") + 2 :].split()
    state, ticks = fields[0], fields[19]
    if state in "ZX" and not _has_threads(pid):
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{ticks}"


def _has_threads(pid: int) -> bool:
    """Whether others than the first thread still end: until then they keep the process' files, and so its lock."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False
