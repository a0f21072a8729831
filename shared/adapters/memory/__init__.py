"""The ports in memory, for tests and simulations; the contract suites hold them to the real ones."""
