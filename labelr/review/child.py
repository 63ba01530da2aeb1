"""``python -m labelr.review.child``: a command of labelr that ends when the process that started it does."""

import runpy

from labelr import signals

if __name__ == "__main__":
    signals.stop_with_parent()
    runpy.run_module("labelr", run_name="__main__", alter_sys=True)
