"""Tests on real parts: Kafka, Valkey, processes."""
