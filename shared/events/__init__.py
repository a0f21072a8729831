"""The contracts: messages (`v1`), their envelope, the topics and the registry that binds them."""
