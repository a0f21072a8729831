"""The only place where the simulator's settings become adapters."""

from __future__ import annotations

import ssl
from base64 import b64encode
from contextlib import AsyncExitStack

from services.simulator.http.api import WatchSettings
from services.simulator.provisioning import Provisioner
from services.simulator.settings import SimulatorSettings
from services.simulator.shell import SimulatorService
from services.simulator.simulator import Simulator
from services.simulator.spec import load_specs
from shared.runtime.connections import open_log


async def build(settings: SimulatorSettings, stack: AsyncExitStack) -> SimulatorService:
    """The simulator, not started, and the clusters to add once it listens.

    Raises:
        ValueError: only one of certificate and key is set, or the clusters' file is malformed.
    """
    simulator = make_simulator(settings)
    specs = load_specs(settings.simulator_clusters) if settings.simulator_clusters else ()
    provisioner = None
    if settings.simulator_provision:
        provisioner = Provisioner(await open_log(settings, "simulator", stack), simulator)
    return SimulatorService(simulator, specs, provisioner)


def make_simulator(settings: SimulatorSettings) -> Simulator:
    """Raises ValueError if only one of certificate and key is set."""
    ca = settings.simulator_tls_ca
    return Simulator(
        kubeconfig_dir=settings.simulator_kubeconfig_dir.resolve(),
        host=settings.simulator_host,
        port=settings.simulator_port,
        advertise=settings.simulator_advertise,
        token=settings.simulator_token.get_secret_value() if settings.simulator_token else None,
        tls=_tls(settings),
        ca_data=b64encode(ca.read_bytes()).decode() if ca else None,
        seed=settings.simulator_seed,
        window=settings.simulator_event_window,
        watch=WatchSettings(settings.simulator_watch_queue, settings.simulator_bookmark_seconds),
    )


def _tls(settings: SimulatorSettings) -> ssl.SSLContext | None:
    certificate, key = settings.simulator_tls_certificate, settings.simulator_tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ValueError("FLOTILLA_SIMULATOR_TLS_CERTIFICATE and FLOTILLA_SIMULATOR_TLS_KEY go together")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
