"""Version 1 of every message. Within v1 a schema only gains optional fields; a break is a v2 class."""
