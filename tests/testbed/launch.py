"""Become a command that dies with the process that started it: `launch.py PARENT_PID COMMAND...`.

Even `kill -9` of a test run must leave no API server behind. Linux sends the signal (PR_SET_PDEATHSIG survives exec);
elsewhere `atexit` in the parent is all there is. It is a program of its own and not a `preexec_fn`, because Python code
between fork and exec can deadlock in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:  # it died before the line above
            sys.exit("the parent process is gone")
    os.execv(command[0], command)  # noqa: S606  the point of this program


if __name__ == "__main__":
    main()
