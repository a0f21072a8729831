"""The asynchronous shell: bytes and connections around the pure core."""
