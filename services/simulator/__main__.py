"""`python -m services.simulator`: serves simulated clusters until SIGTERM or SIGINT."""

from services.simulator.bootstrap import build
from services.simulator.settings import SimulatorSettings
from shared.runtime.service import main

if __name__ == "__main__":
    main("simulator", SimulatorSettings, build)
