"""``edgeagent`` with a GPU that is none, which FOLDER commands: ``-m tests.integration.gpu_daemon FOLDER run ...``."""

from __future__ import annotations

import os
import sys

from edgeagent.cli.main import main
from edgeagent.node.node import Node
from tests.unit.accel.gpu_double import NAME, VARIABLE

if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = (
        "1"  # the double's threads would wait for those of the tests beside it
    )
    os.environ[VARIABLE] = sys.argv.pop(1)
    Node.gpu_backend = NAME
    sys.exit(main())
