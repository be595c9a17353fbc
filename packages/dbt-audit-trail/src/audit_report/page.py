"""Puts data, styles and scripts into one self-contained HTML file."""

import base64
import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2

from audit_report.history import compact

HERE = Path(__file__).resolve().parent
STYLES = ("uplot/uPlot.min.css", "page.css")
SCRIPTS = ("uplot/uPlot.iife.min.js", "parts.js", "page.js")


def render(
    history: dict[str, list[dict[str, Any]]],
    warehouse: str,
    days: int,
    made_at: datetime.datetime,
    repository: str = "",
) -> str:
    """Return the HTML page.

    Args:
        history: rows from `source.read`.
        warehouse: database and schema, for the heading.
        days: the number of days whose runs are shown.
        made_at: when the warehouse was read (UTC).
        repository: web address of the repository on GitHub, for links to the commits of releases; empty: no links.
    """
    styles = [_text(name) for name in STYLES]
    scripts = [_text(name) for name in SCRIPTS]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    data = {**compact(history), "days": days, "madeAt": round(made_at.timestamp() * 1000), "repository": repository}
    return environment.get_template("page.html.j2").render(
        data=_embedded(data),
        days=days,
        made_at=made_at,
        policy=_policy(styles, scripts),
        scripts=scripts,
        styles=styles,
        warehouse=warehouse,
    )


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _embedded(data: Any) -> str:
    """Return JSON that can neither end its script element nor start a comment in it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _policy(styles: list[str], scripts: list[str]) -> str:
    """Return a Content-Security-Policy that allows only the scripts and styles of this page, and no requests.

    Source: https://www.w3.org/TR/CSP3/
    """

    def hashes(texts: list[str]) -> str:
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {hashes(scripts)}; style-src {hashes(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
