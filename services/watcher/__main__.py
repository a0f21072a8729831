"""`python -m services.watcher`."""

from services.watcher.bootstrap import build
from services.watcher.settings import WatcherSettings
from shared.runtime.service import main

if __name__ == "__main__":
    main("watcher", WatcherSettings, build)
