"""The log on Apache Kafka, through aiokafka."""

from shared.adapters.kafka.log import KafkaLog
from shared.adapters.kafka.options import KafkaOptions

__all__ = ["KafkaLog", "KafkaOptions"]
