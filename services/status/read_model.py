"""The read model follows the topics: written behind them, filled anew when it was lost, never waited for.

Only the latest value of each key is kept until Redis has it, so what waits is bounded by the number of workloads and
clusters. Beside the tables stand who filled them and a count of the writes since. Both are looked at before every write
and now and then: if they are not as they were left (Redis was wiped, restored from an old copy, or written by somebody
else) everything is written again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping

from services.status import metrics
from shared.events.v1.read_model import CLUSTERS_TABLE, WORKLOADS_TABLE
from shared.observability.logs import get_logger
from shared.ports.clock import Clock
from shared.ports.key_value import KeyValue, KeyValueError
from shared.runtime.ids import new_id

log = get_logger(__name__)

MARK_TABLE = "status"
FILLED_KEY = "filled"
FILLING_KEY = "filling"
WRITES_KEY = "writes"
_TABLES = (WORKLOADS_TABLE, CLUSTERS_TABLE)
_CHUNK = 2000
_BACKOFF_FIRST_S = 0.2
_BACKOFF_CAP_S = 10.0

# Everything that a table should hold.
Contents = Callable[[str], Iterable[tuple[str, bytes]]]


class ReadModel:
    """`run` writes; `put` and `refill` only say what is to be written."""

    def __init__(self, store: KeyValue, clock: Clock, check_s: float) -> None:
        self._store = store
        self._clock = clock
        self._check_s = check_s
        self._instance = new_id().encode()
        self._writes = 0
        self._fills = 0
        self._pending: dict[str, dict[str, bytes | None]] = {table: {} for table in _TABLES}
        self._contents: Contents | None = None
        self._filled = False
        self._wake = asyncio.Event()
        self.problem = "not filled yet"

    def put(self, table: str, key: str, value: bytes | None) -> None:
        """The latest value of a key; None removes it."""
        self._pending[table][key] = value
        self._wake.set()

    def refill(self, contents: Contents) -> None:
        """From now on the tables hold what `contents` says, and what is put on top of it."""
        self._contents = contents
        self._filled = False
        self._wake.set()

    def release(self) -> None:
        """From now on the tables are somebody else's, and nothing is written."""
        self._contents = None
        self._filled = False
        for items in self._pending.values():
            items.clear()

    @property
    def waiting(self) -> int:
        return sum(len(items) for items in self._pending.values())

    async def run(self) -> None:
        """Writes until it is cancelled; a store that is away is tried again for ever."""
        failures = 0
        while True:
            try:
                await self._work()
            except KeyValueError as error:
                failures += 1
                metrics.READ_MODEL_FAILURES.inc()
                if failures == 1:
                    log.warning("read model unavailable", error=str(error))
                self.problem = str(error)
                await self._clock.sleep(_backoff(failures))
                continue
            if failures:
                log.info("read model available again", failures=failures)
            failures = 0
            await self._rest()

    async def drain(self, timeout_s: float) -> None:
        """Writes what waits, if that is possible within the time; what is not written is written at the next start."""
        if self._contents is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._work()
        except (KeyValueError, TimeoutError) as error:
            log.warning("read model not written at the end", waiting=self.waiting, error=str(error))

    async def _work(self) -> None:
        self._wake.clear()
        if self._contents is None:
            return
        if self._filled and not await self._as_left():
            log.warning("read model lost, filling it anew")
            self._filled = False
        if not self._filled:
            self._filled = await self._fill(self._contents)
        if not self._filled:
            log.warning("read model lost while it was filled, filling it anew")
            self._wake.set()
            return
        for table in _TABLES:
            await self._write_pending(table)
        self.problem = ""
        metrics.READ_MODEL_PENDING.set(self.waiting)

    async def _as_left(self) -> bool:
        filled = await self._store.get(MARK_TABLE, FILLED_KEY)
        writes = await self._store.get(MARK_TABLE, WRITES_KEY)
        return (filled, writes) == (self._instance, str(self._writes).encode())

    async def _fill(self, contents: Contents) -> bool:
        """Writes everything, and removes what should not be there; whether nothing of it was lost meanwhile."""
        self._fills += 1
        # Behind all else it is looked whether this still stands: if so, what was written after it does as well.
        begun = f"{self._instance.decode()}/{self._fills}".encode()
        await self._store.write(MARK_TABLE, {FILLING_KEY: begun})
        for table in _TABLES:
            wanted = dict(contents(table))
            # What waits is part of the contents, or newer than what they were when this was asked for.
            self._pending[table].clear()
            stale = [key async for key, _ in self._store.items(table) if key not in wanted]
            fresh: dict[str, bytes | None] = {**dict.fromkeys(stale), **wanted}
            self._pending[table] = fresh | self._pending[table]
            await self._write_pending(table)
        await self._write_marks({FILLED_KEY: self._instance})
        if await self._store.get(MARK_TABLE, FILLING_KEY) != begun:
            return False
        metrics.READ_MODEL_REBUILDS.inc()
        log.info("read model filled", writes=self._writes)
        return True

    async def _write_pending(self, table: str) -> None:
        pending = self._pending[table]
        while pending:
            chunk = {key: pending[key] for key in list(pending)[:_CHUNK]}
            puts = {key: value for key, value in chunk.items() if value is not None}
            await self._store.write(table, puts, [key for key, value in chunk.items() if value is None])
            for key, value in chunk.items():
                # A newer value may have come while this one was on its way.
                if pending.get(key, value) is value:
                    pending.pop(key, None)
            if self._filled:
                await self._write_marks({})

    async def _write_marks(self, marks: Mapping[str, bytes]) -> None:
        self._writes += 1
        await self._store.write(MARK_TABLE, {**marks, WRITES_KEY: str(self._writes).encode()})

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._check_s):
                await self._wake.wait()
        except TimeoutError:
            return


def _backoff(failures: int) -> float:
    """Exponential, with full jitter above a half: many services come back to one Redis."""
    ceiling = min(_BACKOFF_CAP_S, _BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret
