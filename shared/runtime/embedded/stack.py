"""The developer's Kafka and Valkey: one directory, detached servers, a state file that later commands find them by.

    <root>/kafka/  <root>/valkey/   data and logs
    <root>/state.json               which processes serve on which ports

Invariants:
- Commands on one directory run one at a time (file lock), so two `up` start one broker.
- A process is in the state file before anyone waits for it: `up` may be killed at any moment and `down` still finds it.
- Only processes in the state file whose start time matches are ever signalled, only what `up` made is ever removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.runtime.embedded.broker import STOP_GRACE_S, live_brokers, read_cluster_id
from shared.runtime.embedded.errors import EmbeddedError
from shared.runtime.embedded.kafka import EmbeddedKafka
from shared.runtime.embedded.mutex import exclusive
from shared.runtime.embedded.network import LOOPBACK, free_ports, port_is_free
from shared.runtime.embedded.process import ProcessId, check_unused, terminate
from shared.runtime.embedded.progress import Progress, silent
from shared.runtime.embedded.settings import EmbeddedSettings
from shared.runtime.embedded.valkey import EmbeddedValkey, serving_pid
from shared.runtime.embedded.waiting import until

_CONFIRM_DEADLINE_S = 30.0

KAFKA_PORT = 9092
REDIS_PORT = 6379

ServerName = Literal["kafka", "valkey"]
SERVERS: tuple[ServerName, ...] = ("kafka", "valkey")


class ServerRecord(BaseModel):
    """One running server, as the state file has it."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: str
    port: int

    @property
    def process_id(self) -> ProcessId:
        return ProcessId(self.pid, self.started)

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"


class StackState(BaseModel):
    """The state file."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    kafka: ServerRecord | None = None
    valkey: ServerRecord | None = None

    def record(self, name: ServerName) -> ServerRecord | None:
        return self.kafka if name == "kafka" else self.valkey

    def environment(self) -> dict[str, str]:
        """The settings with which services use these servers."""
        found = {}
        if self.kafka is not None:
            found["FLOTILLA_KAFKA_BOOTSTRAP"] = self.kafka.address
        if self.valkey is not None:
            found["FLOTILLA_REDIS_URL"] = f"redis://{self.valkey.address}/0"
        return found


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is true of one server now. `serving` means that it answered in its own protocol."""

    name: ServerName
    record: ServerRecord | None
    alive: bool
    serving: bool
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class UpResult:
    """What `up` left behind, which servers it had to start, and which of these got another port than was wished."""

    state: StackState
    started: tuple[ServerName, ...]
    moved: tuple[ServerName, ...]


class DevStack:
    """Kafka and Valkey below `root`, outliving the process that starts them."""

    def __init__(self, root: Path, *, settings: EmbeddedSettings | None = None, progress: Progress = silent) -> None:
        self.root = root.resolve()
        self._settings = settings
        self._progress = progress
        self._state_file = self.root / "state.json"

    async def up(self, *, kafka_port: int = KAFKA_PORT, redis_port: int = REDIS_PORT) -> UpResult:
        """Start what does not run. A taken port is replaced by a free one; servers that run keep theirs.

        Raises:
            EmbeddedError: a server could not be started (none that this call started is left running), or one that
                runs does not answer.
        """
        async with self._alone():
            state = self._read().model_copy(update={name: None for name in SERVERS if not self._alive(name)})
            missing = tuple(name for name in SERVERS if state.record(name) is None)
            wishes: dict[ServerName, int] = {"kafka": kafka_port, "valkey": redis_port}
            ports = {name: wishes[name] if port_is_free(wishes[name]) else free_ports(1)[0] for name in missing}
            starts: dict[ServerName, Callable[[int], Coroutine[Any, Any, None]]] = {
                "kafka": self._start_kafka,
                "valkey": self._start_valkey,
            }
            self._write(state)
            try:
                async with asyncio.TaskGroup() as group:
                    for name in SERVERS:
                        group.create_task(starts[name](ports[name]) if name in ports else self._confirm(name))
            except BaseException as error:
                await self._stop(missing)
                if isinstance(error, BaseExceptionGroup):
                    raise error.exceptions[0] from error
                raise
            moved = tuple(name for name in missing if ports[name] != wishes[name])
            return UpResult(self._read(), missing, moved)

    async def status(self) -> tuple[ServerStatus, ...]:
        """What is true now; changes nothing."""
        state = self._read()
        return tuple([await self._status_of(name, state.record(name)) for name in SERVERS])

    async def down(self, *, wipe: bool = False) -> tuple[ServerName, ...]:
        """Stop what runs, and with `wipe` remove its data; returns what was running."""
        if not self.root.exists():
            return ()
        async with self._alone():
            running = tuple(name for name in SERVERS if self._alive(name))
            await self._stop(SERVERS)
            if wipe:
                await asyncio.to_thread(self._wipe)
            return running

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with exclusive(self.root / ".command"):
            yield

    async def _start_kafka(self, port: int) -> None:
        kafka = EmbeddedKafka(
            self.root / "kafka", port, detached=True, settings=self._settings, progress=self._progress
        )
        await kafka.launch()
        self._note("kafka", kafka.process_id, port)
        await kafka.wait_ready()

    async def _start_valkey(self, port: int) -> None:
        valkey = EmbeddedValkey(self.root / "valkey", port, detached=True)
        valkey.launch()
        self._note("valkey", valkey.process_id, port)
        await valkey.wait_ready()

    async def _confirm(self, name: ServerName) -> None:
        """Wait until a server that an earlier `up` started answers: that one may have been killed while it waited."""
        record = self._read().record(name)

        async def serving() -> bool:
            return (await self._status_of(name, record)).serving

        if record is not None and not await until(serving, within_s=_CONFIRM_DEADLINE_S):
            raise EmbeddedError(
                f"{name} (pid {record.pid}) runs but does not answer on {record.address}; stop it first"
            )

    async def _stop(self, names: tuple[ServerName, ...]) -> None:
        state = self._read()
        records = [record for name in names if (record := state.record(name)) is not None]
        await asyncio.gather(*(terminate(record.process_id, grace_s=STOP_GRACE_S) for record in records))
        self._write(state.model_copy(update=dict.fromkeys(names)))

    def _wipe(self) -> None:
        for name in SERVERS:
            if (self.root / name).exists():
                check_unused(self.root / name)
                shutil.rmtree(self.root / name)
        self._state_file.unlink(missing_ok=True)

    async def _status_of(self, name: ServerName, record: ServerRecord | None) -> ServerStatus:
        if record is None or not record.process_id.alive:
            return ServerStatus(name, record, alive=False, serving=False, memory_bytes=None)
        if name == "kafka":
            serving = bool(await live_brokers(record.port, read_cluster_id(self.root / "kafka" / "storage")))
        else:
            serving = await serving_pid(record.port) == record.pid
        return ServerStatus(name, record, alive=True, serving=serving, memory_bytes=_resident_bytes(record.pid))

    def _alive(self, name: ServerName) -> bool:
        record = self._read().record(name)
        return record is not None and record.process_id.alive

    def _note(self, name: ServerName, process: ProcessId, port: int) -> None:
        record = ServerRecord(pid=process.pid, started=process.started, port=port)
        self._write(self._read().model_copy(update={name: record}))

    def _read(self) -> StackState:
        if not self._state_file.exists():
            return StackState()
        try:
            return StackState.model_validate_json(self._state_file.read_bytes())
        except ValidationError as error:
            raise EmbeddedError(f"{self._state_file} is damaged; stop its servers by hand and remove it") from error

    def _write(self, state: StackState) -> None:
        draft = self._state_file.with_suffix(".new")
        draft.write_text(state.model_dump_json(indent=2) + "\n")
        draft.replace(self._state_file)


def _resident_bytes(pid: int) -> int | None:
    """Resident memory, where the system shows it (Linux)."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
