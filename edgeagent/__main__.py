"""``python -m edgeagent`` is the ``edgeagent`` command."""

import sys

from edgeagent.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
