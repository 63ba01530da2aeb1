"""``labelr review``."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

from labelr import console
from labelr.cli import options as opt
from labelr.config import ReadOptions
from labelr.errors import LabelrError

Target = Annotated[
    Path, opt.argument("TARGET", "What `labelr tag` wrote, a labelled data set, or a table of suspects.")
]
Data = Annotated[
    Path | None,
    opt.option("--data", "Data set that a table of suspects is of. Default: its folder.", "Data", metavar="DIR"),
]
Model = Annotated[
    str | None, opt.model_option("Model whose predictions to show. Default: the one that tagged, or none.")
]
Refit = Annotated[
    bool, opt.option("--refit", "Train the model again on the answers so far, in the background.", "Model")
]
Port = Annotated[int, opt.option("--port", "Port of the page; 0: a free one.", "Page", min=0, max=65535)]
Browser = Annotated[bool, opt.option("--browser/--no-browser", "Open the page in the browser.", "Page")]
ReadOnly = Annotated[bool, opt.option("--read-only", "Show labels, and take no answers.", "Page")]
Blind = Annotated[
    bool, opt.option("--blind", "Hide given labels and probabilities until a person has answered.", "Page")
]


@opt.takes_settings(ReadOptions, leave_out=("on_error", "skip_missing", "trust_predictions", "cache_limit", "group"))
def review(
    printing: opt.Printing,
    target: Target,
    data: Data = None,
    model: Model = None,
    refit: Refit = False,
    port: Port = 0,
    browser: Browser = True,
    read_only: ReadOnly = False,
    blind: Blind = False,
    **settings: Any,
) -> None:
    """Correct labels in the browser, on a page of this machine alone.

    Prints the address of the page. Answers are kept at once; Ctrl-C ends the page, and the same command resumes.

    Examples:
        labelr review photos
        labelr review holiday_labels
        labelr review suspects.csv --data photos
    """
    options = ReadOptions.of(settings)
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise LabelrError(
            "the page needs packages that are not installed", "install them with `pip install 'labelr[review]'`"
        ) from error
    from labelr.review.server import review as run

    def ready(address: str, address_once: str) -> None:
        printing.show({"address": address}, address)
        console.flush()
        if browser:
            _open_browser(address_once)

    with printing.session():
        run(
            target, options, data=data, model=model, refit=refit, port=port, blind=blind, read_only=read_only,
            ready=ready,
        )  # fmt: skip


def _open_browser(address: str) -> None:
    """Opens a page in the browser, in a process of its own that prints nothing."""
    command = [sys.executable, "-m", "webbrowser", address]
    subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # noqa: S603
