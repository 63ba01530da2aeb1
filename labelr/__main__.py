"""``python -m labelr``, and the command ``labelr``."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line; Ctrl-C ends it without a traceback even while it is being imported."""
    try:
        from labelr.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
