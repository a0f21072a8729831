"""`python -m services.executor`."""

from services.executor.bootstrap import build
from services.executor.settings import ExecutorSettings
from shared.runtime.service import main

if __name__ == "__main__":
    main("executor", ExecutorSettings, build)
