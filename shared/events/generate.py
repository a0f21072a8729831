"""Documents made from the topics module: JSON Schemas, AsyncAPI, the broker's topics and ACLs (`make gen`).

A user in another language needs only `docs/asyncapi.yaml` and `docs/schemas/`. The check (`make verify`) writes nothing
and fails where a document differs, or where a schema of v1 lost or changed what it had.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from shared.events.acls import acls
from shared.events.compatibility import breaking_changes
from shared.events.topics import ALL_TOPICS, MessageType, Topic, commands_topic

ROOT = Path(__file__).resolve().parents[2]
_NOTE = "Made by `make gen` from shared/events/topics.py; do not edit."
_HEADERS = {
    "type": "object",
    "description": "CloudEvents 1.0 in Kafka's binary content mode, and what the fleet adds",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"],
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string", "description": "UUIDv7; a repeat of the same event has the same id"},
        "ce_source": {"type": "string", "description": "who wrote it, such as flotilla/watcher/mycluster"},
        "ce_type": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_subject": {"type": "string", "description": "the record's key"},
        "content-type": {"type": "string", "const": "application/json"},
        "traceparent": {"type": "string", "description": "W3C trace context"},
        "fleet_epoch": {"type": "string", "description": "the writer's epoch, a whole number"},
        "fleet_seq": {"type": "string", "description": "contiguous within writer and epoch, a whole number"},
        "fleet_signature": {"type": "string"},
    },
}
_USER_HEADERS = {
    **_HEADERS,
    "required": [],
    "description": "CloudEvents 1.0 in Kafka's binary content mode. All may be absent in a request: the record's "
    "position is then its id, and its timestamp its time",
}


def documents() -> Iterator[tuple[str, str]]:
    """Every generated document: its path below the project's root, and its text."""
    topics = [*ALL_TOPICS, _any_commands_topic()]
    for message in _messages(topics):
        yield f"docs/schemas/{schema_name(message)}", _json(_schema(message))
    yield "docs/asyncapi.yaml", _yaml(_asyncapi(topics))
    yield "deploy/kafka/topics.yaml", _yaml({"topics": [_topic(topic) for topic in topics]})
    yield "deploy/kafka/acls.yaml", _yaml({"acls": [acl.document() for acl in acls()]})


def schema_name(message: MessageType) -> str:
    """`fleet.workload.requested.v1` is described by `v1/fleet.workload.requested.json`."""
    name, _, version = message.ce_type.rpartition(".")
    return f"{version}/{name}.json"


def _any_commands_topic() -> Topic:
    return commands_topic("<cluster>")


def _messages(topics: list[Topic]) -> list[MessageType]:
    return [message for topic in topics for message in topic.messages]


def _schema(message: MessageType) -> dict[str, Any]:
    schema = message.model.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:flotilla:{message.ce_type}",
        **schema,
    }


def _asyncapi(topics: list[Topic]) -> dict[str, Any]:
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for topic in topics:
        name = _channel(topic)
        channels[name] = {
            "address": topic.name.replace("<cluster>", "{cluster}"),
            "description": topic.description,
            "messages": {m.ce_type: {"$ref": f"#/components/messages/{m.ce_type}"} for m in topic.messages},
            "bindings": {"kafka": _binding(topic)},
            **({"parameters": {"cluster": {"description": "name of the cluster"}}} if "<" in topic.name else {}),
            "x-key": topic.key,
            "x-written-by": list(topic.written_by),
            "x-read-by": list(topic.read_by),
            **({"x-tombstone": topic.tombstones} if topic.tombstones else {}),
            **({"x-partitioned-by": "cluster (murmur2, as Kafka's default)"} if topic.by_cluster else {}),
        }
        # AsyncAPI speaks from the side of the application that the document is for: the fleet's users.
        action = "send" if "users" in topic.written_by else "receive"
        operations[f"{action}.{name}"] = {"action": action, "channel": {"$ref": f"#/channels/{name}"}}
    messages = {
        m.ce_type: {
            "name": m.ce_type,
            "summary": (m.model.__doc__ or "").strip().splitlines()[0] if m.model.__doc__ else m.ce_type,
            "contentType": "application/json",
            "headers": {"$ref": f"#/components/schemas/{'requestHeaders' if 'users' in t.written_by else 'headers'}"},
            "payload": {
                "schemaFormat": "application/schema+json;version=draft-2020-12",
                "schema": {"$ref": f"./schemas/{schema_name(m)}"},
            },
            **({"x-key": m.key} if m.key else {}),
        }
        for t in topics
        for m in t.messages
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Flotilla",
            "version": "1.0.0",
            "description": "Every stream of the fleet. Reading the compacted topics from the start tells the whole "
            "fleet; publish to `fleet.requests`, follow `fleet.status` and `fleet.events`.\n" + _NOTE,
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": {"headers": _HEADERS, "requestHeaders": _USER_HEADERS},
            "messages": messages,
        },
    }


def _channel(topic: Topic) -> str:
    return topic.name.replace("<cluster>", "cluster")


def _binding(topic: Topic) -> dict[str, Any]:
    return {
        "topic": topic.name,
        "partitions": topic.partitions,
        "topicConfiguration": {"cleanup.policy": [topic.cleanup.value], "retention.ms": topic.retention_ms},
        "bindingVersion": "0.5.0",
    }


def _topic(topic: Topic) -> dict[str, Any]:
    return {"name": topic.name, "partitions": topic.partitions, "config": topic.config()}


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _yaml(document: dict[str, Any]) -> str:
    return f"# {_NOTE}\n" + yaml.safe_dump(document, sort_keys=False, width=100, allow_unicode=True)


def check() -> list[str]:
    """What differs from the checked-in documents, and what breaks a promise of v1."""
    problems = []
    for path, text in documents():
        file = ROOT / path
        if not file.exists():
            problems.append(f"{path} is missing: run `make gen`")
        elif file.read_text() != text:
            problems.append(f"{path} differs: run `make gen` and look at the difference")
            if path.startswith("docs/schemas/"):
                problems += [
                    f"{path}: {change}" for change in breaking_changes(json.loads(file.read_text()), json.loads(text))
                ]
    return problems


def write() -> list[str]:
    """Writes every document that differs. Refuses (and returns why) where a schema of v1 would break."""
    problems: list[str] = []
    for path, text in documents():
        file = ROOT / path
        if file.exists() and path.startswith("docs/schemas/"):
            problems += [
                f"{path}: {change}" for change in breaking_changes(json.loads(file.read_text()), json.loads(text))
            ]
    if problems:
        return problems
    for path, text in documents():
        file = ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
    return []


if __name__ == "__main__":
    found = check() if "--check" in sys.argv[1:] else write()
    for problem in found:
        sys.stderr.write(f"{problem}\n")
    sys.exit(1 if found else 0)
