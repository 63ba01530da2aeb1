"""Runs a review: the target, its session, and the server until it is stopped."""

from collections.abc import Callable
from pathlib import Path

from labelr.config import ReadOptions
from labelr.errors import LabelrError
from labelr.review.api import Api
from labelr.review.background import Background
from labelr.review.queues import Queues
from labelr.review.save import Saver
from labelr.review.server import Server
from labelr.review.session import Session
from labelr.review.targets import read_target


def review(
    path: Path,
    options: ReadOptions,
    *,
    data: Path | None = None,
    model: str | None = None,
    refit: bool = False,
    port: int = 0,
    blind: bool = False,
    read_only: bool = False,
    ready: Callable[[str, str], None],
) -> None:
    """Serves the page on which a person reviews labels, until a signal stops it.

    Args:
        path: The output of `labelr tag`, a labelled data set, or a table of suspected or uncertain images.
        options: How label files are read.
        data: The data set that a table is of; None for the folder of the table.
        model: The model whose predictions are shown, and which is trained again; None for the one that tagged.
        refit: Whether to train it again at the start.
        port: On which the server listens; 0 for a free one.
        blind: Whether proposals and given labels are hidden.
        read_only: Whether answers are refused.
        ready: Takes the address of the page once it can be opened, and one for the browser that opens it once.

    Raises:
        LabelrError: If the target cannot be understood, the model cannot be used, or the port is in use.
        Stopped: When a signal arrives.
    """
    target = read_target(path, options, data=data)
    saver = Saver(target, read_only=read_only)
    session = Session(target, read_only=read_only)
    queues = Queues(session, blind=blind)
    work = Background(session, queues, saver, model)
    if refit and (reason := work.refusal()):
        hint = "name one with `--model`" if work.kind is None else "start without `--refit`, and answer these first"
        raise LabelrError(f"the model cannot be trained again: {reason}", hint)
    server = Server(port)
    saver.changed = queues.forget
    saver.start(session)
    if refit:
        work.train()
    elif model is not None:
        work.predict()
    server.start(Api(session, queues, saver, work))
    try:
        ready(server.address, server.address_once)
        server.wait()
    finally:
        server.stop()
        work.stop()
        saver.stop()
