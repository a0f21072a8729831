"""`flotilla demo`: a whole fleet on this machine, and a stream of workloads on it."""
