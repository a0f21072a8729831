"""`python -m services.scheduler`, and `python -m services.scheduler why NAMESPACE/NAME`."""

import sys

from services.scheduler import asking
from services.scheduler.bootstrap import build
from services.scheduler.settings import SchedulerSettings
from shared.runtime.service import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["why"]:
        sys.exit(asking.main(sys.argv[2:]))
    main("scheduler", SchedulerSettings, build)
