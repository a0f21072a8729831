"""A whole fleet on this machine, as processes: for the demo, the end-to-end tests and the benchmarks."""

from services.cli.fleet.local import FleetOptions, LocalFleet
from services.cli.fleet.process import FleetError, ServiceProcess

__all__ = ["FleetError", "FleetOptions", "LocalFleet", "ServiceProcess"]
