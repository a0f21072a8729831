"""The executor: makes one cluster run what `fleet.commands.<cluster>` says, and reports what became of it."""
