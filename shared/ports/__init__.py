"""What the services need from the world, as protocols. One contract suite runs on every implementation."""
