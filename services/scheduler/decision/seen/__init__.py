"""The fleet as it was seen: nodes, pods, load and silence, and the room that is held for what is not seen yet."""
