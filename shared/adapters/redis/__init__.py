"""The `KeyValue` port on Redis or Valkey."""

from shared.adapters.redis.key_value import RedisKeyValue, RedisOptions

__all__ = ["RedisKeyValue", "RedisOptions"]
