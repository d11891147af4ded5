"""Start a command that dies with its parent: ``python child.py <parent pid> <command> …``.

A supervisor that is killed with SIGKILL cannot stop its children, so each child asks the kernel
(Linux: PR_SET_PDEATHSIG) to be told. The wish survives ``exec``, so this file sets it and becomes
the command. It is run as a plain script without site-packages (``python -I -S``), which keeps the
start at a few milliseconds and avoids running Python code between fork and exec of a process with
threads. Elsewhere than on Linux the wish does not exist and the command simply starts.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def command(arguments: list[str]) -> list[str]:
    """The command line that runs ``arguments`` as a child tied to the calling process."""
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), *arguments]


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before the wish was known
        sys.exit(1)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
