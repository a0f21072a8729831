"""The embedded default: real Apache Kafka and real Valkey as child processes.

Everything comes from PyPI and a Maven repository; no JDK, Docker or system package is needed.
"""

from shared.runtime.embedded.errors import DigestMismatchError, EmbeddedError, PartsMissingError, StartError
from shared.runtime.embedded.kafka import EmbeddedKafka, EmbeddedKafkaCluster
from shared.runtime.embedded.kafka_config import KafkaConfig
from shared.runtime.embedded.settings import EmbeddedSettings
from shared.runtime.embedded.valkey import EmbeddedValkey, ValkeyConfig

__all__ = [
    "DigestMismatchError",
    "EmbeddedError",
    "EmbeddedKafka",
    "EmbeddedKafkaCluster",
    "EmbeddedSettings",
    "EmbeddedValkey",
    "KafkaConfig",
    "PartsMissingError",
    "StartError",
    "ValkeyConfig",
]
