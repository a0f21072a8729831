"""The HorizontalPodAutoscaler's algorithm beside the original, on $FLOTILLA_ORACLE_CASES random cases."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest

from tests.integration.autoscaler.cases import answers, case
from tests.testbed.oracle import ask

_CASES = int(os.environ.get("FLOTILLA_ORACLE_CASES", "2000"))


def test_it_answers_as_the_original() -> None:
    cases = [case(number) for number in range(_CASES)]
    looks = changes = 0
    for number, (document, theirs) in enumerate(zip(cases, ask(cases), strict=True)):
        ours = answers(document)
        if ours != [(answer["replicas"], answer["failed"]) for answer in theirs]:
            pytest.fail(f"case {number}: {ours} instead of {theirs}")
        looks += len(ours)
        changes += sum(one != other for (one, _), (other, _) in pairwise(ours))
    # Cases in which nothing happens would prove nothing.
    assert changes > looks / 10
