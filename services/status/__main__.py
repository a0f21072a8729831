"""`python -m services.status`."""

from services.status.bootstrap import build
from services.status.settings import StatusSettings
from shared.runtime.service import main

if __name__ == "__main__":
    main("status", StatusSettings, build)
