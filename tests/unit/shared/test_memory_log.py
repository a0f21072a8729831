"""The log in memory where the contract cannot reach: what compaction leaves."""

from __future__ import annotations

from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import STATUS
from shared.ports.event_log import START, NewRecord, Partition


async def test_a_partition_whose_last_records_compaction_took_is_read_to_its_end() -> None:
    log = MemoryLog()
    await log.ensure_topics([STATUS])
    publisher = await log.publisher("test")
    for key, value in ((b"a", b"1"), (b"b", b"2"), (b"b", None)):
        await publisher.send(NewRecord(STATUS.name, key, value, partition=0))
    log.compact(STATUS.name, drop_tombstones=True)
    reader, partition = await log.reader("test"), Partition(STATUS.name, 0)
    await reader.assign({partition: START})
    assert [record.key for record in await reader.read(max_records=1, timeout_s=0)] == [b"a"]
    assert reader.positions() == {partition: 1}
    assert await reader.read(timeout_s=0) == []
    assert reader.positions() == await reader.end_offsets([partition])
