from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.kubernetes.lines import LineSplitter, LineTooLongError

LINE = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"").strip())
TEXT = st.lists(LINE, max_size=12)


@given(lines=TEXT, tail=LINE, cuts=st.lists(st.integers(0, 600), max_size=30))
def test_any_chunking_gives_the_same_lines(lines: list[bytes], tail: bytes, cuts: list[int]) -> None:
    data = b"".join(line + b"\n" for line in lines) + tail
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    splitter = LineSplitter()

    found = [line for low, high in pairwise(bounds) for line in splitter.feed(data[low:high])]

    assert found == [line for line in lines if line]
    assert splitter.finish() == tail


def test_a_line_of_megabytes_in_small_chunks_is_joined_once() -> None:
    splitter = LineSplitter()
    line = bytes(range(11, 250)) * 20_000  # 4.8 MB without a line feed

    found = [got for start in range(0, len(line), 1400) for got in splitter.feed(line[start : start + 1400])]
    found += splitter.feed(b"\nnext")

    assert found == [line]
    assert splitter.finish() == b"next"


def test_a_line_without_end_is_refused() -> None:
    splitter = LineSplitter(limit=1000)
    splitter.feed(b"x" * 900)

    with pytest.raises(LineTooLongError):
        splitter.feed(b"x" * 200)


def test_a_long_line_that_ended_does_not_count_against_the_next() -> None:
    splitter = LineSplitter(limit=1000)
    splitter.feed(b"x" * 900)
    assert splitter.feed(b"\n") == [b"x" * 900]
    assert splitter.feed(b"y" * 900) == []


def test_empty_lines_are_no_lines() -> None:
    assert LineSplitter().feed(b"\n\r\n  \na\n") == [b"a"]
