"""One pod set at a time: what it keeps, gives up and gains, and why."""
