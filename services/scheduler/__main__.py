"""`python -m services.scheduler`."""

from services.scheduler.bootstrap import build
from services.scheduler.settings import SchedulerSettings
from shared.runtime.service import main

if __name__ == "__main__":
    main("scheduler", SchedulerSettings, build)
