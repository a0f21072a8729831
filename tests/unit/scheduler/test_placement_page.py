"""Every workload in docs/placement.md is accepted as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.scheduler.decision.asked.admission import plan_workload
from shared.events.v1.workloads import Workload

PAGE = Path(__file__).parents[3] / "docs" / "placement.md"
BLOCKS = [part.partition("```")[0] for part in PAGE.read_text().split("```yaml\n")[1:]]
EXAMPLES = [document for block in BLOCKS for document in yaml.safe_load_all(block)]


def test_the_page_has_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=[example["name"] for example in EXAMPLES])
def test_an_example_is_accepted(example: dict[str, Any]) -> None:
    _, errors = plan_workload(Workload.model_validate(example), "nvidia.com/gpu")
    assert errors == ()
