"""How many replicas and nodes there should be, decided purely: no asyncio, clock, network, randomness or logging."""
