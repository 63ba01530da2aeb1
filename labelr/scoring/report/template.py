"""What all pages share: one style, one script, one frame, and how they become one file that asks nothing."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelr import files
from labelr.data.images import PAGE_FILE, REPORT_FOLDER
from labelr.version import __version__

HERE = Path(__file__).parent


def page_in(folder: Path) -> Path:
    """Where the page of a directory is."""
    return folder / REPORT_FOLDER / PAGE_FILE


def write_page(page: Path, content: str) -> None:
    """Writes a page, in one piece; names may hold what UTF-8 cannot.

    Raises:
        LabelrError: If it cannot be written.
    """
    files.write_atomically(page, content.encode("utf-8", "replace"), durable=False)


def render_page(template: Path, context: Mapping[str, Any]) -> str:
    """A page as text.

    Args:
        template: It extends ``base.html.j2``.
        context: What it shows. For the frame: its `title`, and of `sections` each anchor with what the list calls it.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader([template.parent, HERE]), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = (HERE / "page.js").read_text(encoding="utf-8")
    frame = {
        "version": __version__,
        "style": Markup((HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own
        "script": Markup(script),  # noqa: S704 - our own
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return environment.get_template(template.name).render({**context, **frame}) + "\n"
