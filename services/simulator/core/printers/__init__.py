"""What `kubectl get` shows of each built-in kind. Source: k8s.io/kubernetes/pkg/printers/internalversion."""

from __future__ import annotations

from services.simulator.core.printers.base import Printer
from services.simulator.core.printers.config import CONFIG_PRINTERS
from services.simulator.core.printers.pods import POD_PRINTERS
from services.simulator.core.printers.workloads import WORKLOAD_PRINTERS

PRINTERS: dict[str, Printer] = {**POD_PRINTERS, **WORKLOAD_PRINTERS, **CONFIG_PRINTERS}
"""By storage name."""
