"""`python -m services.autoscaler run`."""

from services.autoscaler.bootstrap import build
from services.autoscaler.settings import AutoscalerSettings
from shared.runtime.service import main

if __name__ == "__main__":
    main("autoscaler", AutoscalerSettings, build)
