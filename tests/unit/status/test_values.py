"""The values of this service are those of the messages, field by field and byte by byte."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from services.status.decision import values
from shared.events.v1 import status as messages

PAIRS = [
    (messages.Condition, values.Condition),
    (messages.Counts, values.Counts),
    (messages.Template, values.Template),
    (messages.PodSetStatus, values.PodSetStatus),
    (messages.ClusterStatus, values.ClusterStatus),
    (messages.Milestones, values.Milestones),
    (messages.WorkloadStatus, values.WorkloadStatus),
]
TEXT = st.text(max_size=8)
NUMBER = st.integers(0, 2**53)

conditions = st.builds(
    messages.Condition,
    type=TEXT,
    status=st.sampled_from(["True", "False", "Unknown"]),
    reason=TEXT,
    message=TEXT,
    last_transition_at=NUMBER,
)
counts = st.builds(messages.Counts, desired=NUMBER, ready=NUMBER, failed=NUMBER)
templates = st.builds(messages.Template, digest=TEXT, generation=NUMBER)
pod_sets = st.builds(messages.PodSetStatus, name=TEXT, counts=counts, template=st.none() | templates)
clusters = st.builds(
    messages.ClusterStatus,
    cluster=TEXT,
    counts=counts,
    pod_sets=st.lists(pod_sets, max_size=2).map(tuple),
    generation=st.none() | NUMBER,
    applied=st.booleans(),
    stale=st.booleans(),
    reason=TEXT,
    digest=TEXT,
)
milestones = st.builds(messages.Milestones, requested_at=st.none() | NUMBER, running_at=st.none() | NUMBER)
statuses = st.builds(
    messages.WorkloadStatus,
    namespace=TEXT,
    name=TEXT,
    phase=st.sampled_from(messages.Phase),
    generation=NUMBER,
    message=TEXT,
    conditions=st.lists(conditions, max_size=2).map(tuple),
    pod_sets=st.lists(pod_sets, max_size=2).map(tuple),
    clusters=st.lists(clusters, max_size=2).map(tuple),
    milestones=milestones,
    step=NUMBER,
    updated_at=NUMBER,
)


@pytest.mark.parametrize(("message", "value"), PAIRS)
def test_the_fields_are_those_of_the_message(message: type[BaseModel], value: type[msgspec.Struct]) -> None:
    assert list(value.__struct_fields__) == list(message.model_fields)


@given(statuses)
@settings(deadline=None)
def test_the_bytes_are_those_of_the_message(status: messages.WorkloadStatus) -> None:
    published = status.to_json()
    read = values.DECODER.decode(published)
    assert read.to_json() == published
    assert messages.WorkloadStatus.model_validate_json(read.to_json()) == status
