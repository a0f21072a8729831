"""The benchmark of large fleets, small: it is the figures that are told, not their size."""

from __future__ import annotations

import json
import sys

import pytest

from tests.bench import decisions


def test_every_constraint_stands_beside_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--constraint", "all", "--nodes", "64", "--shapes", "2", "--decisions", "32"]
    monkeypatch.setattr(sys, "argv", ["decisions", *asked])
    decisions.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert tuple(told["ratios"]) == decisions.CONSTRAINTS
    assert told["slowest_ratio"] == min(told["ratios"].values()) == told["ratios"][told["slowest"]]
