"""``python -m labelr.review.child``: a command of labelr that ends when the process that started it does.

That process holds the other end of stdin, which the system closes also on ``kill -9``.
"""

import os
import runpy
import signal
import threading


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("labelr", run_name="__main__", alter_sys=True)
