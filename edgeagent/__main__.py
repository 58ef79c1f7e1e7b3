"""``python -m edgeagent`` is the ``edgeagent`` command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """The command; Ctrl-C while it is still being imported is an end like any other."""
    try:
        from edgeagent.cli.main import main as command

        return command()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
