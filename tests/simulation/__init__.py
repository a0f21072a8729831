"""The whole fleet in one process and in virtual time, from one seed, while everything that can break does."""
