"""Become one role of the service: ``python -m workers.role api`` (the image's entry point)."""

import os
import sys

from workers.commands import ROLES, role


def main() -> None:
    """Replace this process by the role's, so that signals reach it directly."""
    if len(sys.argv) != 2 or sys.argv[1] not in ROLES:
        print(f"usage: python -m workers.role {'|'.join(ROLES)}", file=sys.stderr)
        raise SystemExit(2)
    command = role(sys.argv[1])
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
