"""The API server without a server: requests in, objects and events out. Pure: no asyncio, clock or randomness.

Time and identities are passed in, so a cluster replays to the same bytes. Stored objects are never changed in
place: a write stores a new version that shares the unchanged subtrees of the old one.
"""
