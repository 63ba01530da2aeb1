"""``python -m labelr``."""

from labelr.cli.app import main

if __name__ == "__main__":
    main()
