"""The generated data is what its generators say now."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.simulator.core.builtins import builtin_resources
from services.simulator.schemas import annotations as marks
from services.simulator.schemas import generate, generate_protobuf
from services.simulator.schemas.builtin import builtin_types
from tests.testbed.installation import pinned


def test_the_types_are_those_of_the_installed_client_library() -> None:
    assert generate.TARGET.read_text() == generate.generate(), (
        "the library has changed: run python -m services.simulator.schemas.generate"
    )


def test_the_wire_numbers_are_those_of_the_pinned_kubernetes(kubernetes_wire_sources: Path) -> None:
    generated = generate_protobuf.generate(kubernetes_wire_sources, pinned("k8s.io/api"))
    assert generate_protobuf.TARGET.read_text() == generated


@pytest.mark.parametrize(
    "path",
    sorted(
        {
            *marks.LIST_MAPS,
            *marks.MERGE_KEYS,
            *marks.LIST_SETS,
            *marks.ATOMIC_FIELDS,
            *marks.QUANTITIES,
            *marks.ENUMS,
            *marks.NOT_NEGATIVE,
            *marks.PORTS,
        }
    ),
)
def test_every_annotation_is_of_a_field_that_exists(path: str) -> None:
    name, _, field = path.partition(".")
    assert field in builtin_types().type(name).properties


def test_list_keys_are_fields_of_the_elements() -> None:
    for path, keys in marks.LIST_MAPS.items():
        name, _, field = path.partition(".")
        element = builtin_types().type(name).properties[field].element
        assert set(keys) <= element.properties.keys(), path


def test_every_atomic_type_is_reachable_or_known() -> None:
    known = {resource.schema.name for resource in builtin_resources()}
    assert {"V1Pod", "V1Deployment", "V1Lease"} <= known
