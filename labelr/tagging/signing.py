"""The key in ``LABELR_HOME`` by which labelr recognizes its own entries in a journal, which may come from elsewhere."""

import hashlib
import hmac
import logging
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from labelr import files

log = logging.getLogger(__name__)

KEY_FILE = "journal.key"
KEY_BYTES = 32


def read_key() -> bytes:
    """The key of this user; empty if there is none, or it cannot be read."""
    with suppress(OSError, ValueError):
        key = files.read_bytes(files.home() / KEY_FILE, KEY_BYTES)
        return key if len(key) == KEY_BYTES else b""
    return b""


def make_key() -> bytes:
    """The key of this user, which is created if there is none; one for this run alone if it cannot be kept."""
    reason = f"{KEY_FILE} is damaged or cannot be read"
    try:
        while not os.path.lexists(files.home() / KEY_FILE):
            _create(files.home())
    except OSError as error:
        reason = str(error.strerror or error)
    key = read_key()
    if not key:
        log.warning(
            "no key can be kept in %s (%s): later runs take the files of this run for yours, and keep them",
            files.home(), reason,
        )  # fmt: skip
    return key or secrets.token_bytes(KEY_BYTES)


def _create(home: Path) -> None:
    """Creates the key, complete and readable for its owner alone, unless another process does at the same time.

    Perhaps there is still none, since another process has taken the draft for that of a process that was killed.
    """
    home.mkdir(parents=True, exist_ok=True)
    files.delete_drafts(home, below=False)
    handle, draft = tempfile.mkstemp(prefix=files.DRAFT_PREFIX, suffix=files.DRAFT_SUFFIX, dir=home)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError, FileNotFoundError):
            os.link(draft, home / KEY_FILE)
    finally:
        Path(draft).unlink(missing_ok=True)


def sign(key: bytes, *parts: bytes) -> str:
    """The signature of some values in this order, in hexadecimal."""
    content = b"".join(len(part).to_bytes(8) + part for part in parts)
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def is_signed(signature: str, key: bytes, *parts: bytes) -> bool:
    """Whether a signature is that of these values by this key; never without a key."""
    return bool(key) and hmac.compare_digest(signature.encode(), sign(key, *parts).encode())
