"""`python -m services.scheduler`; with `why NAMESPACE/NAME` or `replay` it asks, decides nothing and writes nothing."""

import sys

from services.scheduler import asking
from services.scheduler.bootstrap import build
from services.scheduler.replay import command as replaying
from services.scheduler.settings import SchedulerSettings
from shared.runtime.service import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["why"]:
        sys.exit(asking.main(sys.argv[2:]))
    if sys.argv[1:2] == ["replay"]:
        sys.exit(replaying.main(sys.argv[2:]))
    main("scheduler", SchedulerSettings, build)
