"""`python -m services.autoscaler run`; with `replay` it decides nothing and writes nothing."""

import sys

from services.autoscaler.bootstrap import build
from services.autoscaler.replay import command as replaying
from services.autoscaler.settings import AutoscalerSettings
from shared.runtime.service import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["replay"]:
        sys.exit(replaying.main(sys.argv[2:]))
    main("autoscaler", AutoscalerSettings, build)
