"""The `KeyValue` port on Redis or Valkey."""

from shared.adapters.redis.key_value import RedisKeyValue
from shared.adapters.redis.options import RedisOptions

__all__ = ["RedisKeyValue", "RedisOptions"]
