"""Building blocks of an HTML page that stands alone: no script, no font, no image from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The Content-Security-Policy of a page: whatever stands in it, it runs nothing and loads nothing."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2530}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2.2rem}img{max-width:100%;border-radius:4px}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .7rem .3rem 0;border-bottom:1px solid #dde3ea}
td.number{font-variant-numeric:tabular-nums}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font-size:.85em}
.good{color:#10703c}.bad{color:#b3261e}.quiet{color:#66717d}
@media(prefers-color-scheme:dark){body{background:#14181d;color:#e3e8ee}th,td{border-color:#333c46}
.good{color:#5ecb8c}.bad{color:#ff8a80}.quiet{color:#9aa6b2}}
"""


class Html(str):
    """Text that is HTML already; any other text is escaped before it stands on a page."""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page; `title` stands in the browser's, each part below the last one."""
    body = "\n".join(part for part in parts if part)
    return (
        f"<!doctype html>\n<html lang=en><meta charset=utf-8>{policy()}"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{text(title)}</title><style>{_STYLE}</style>\n{body}\n</html>\n"
    )


def policy() -> Html:
    """The tag that keeps a page to POLICY."""
    return Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">')


def guarded(stored: bytes) -> bytes:
    """Somebody's page, held to POLICY whatever it says: policies add up, and the first tag counts first."""
    return f"<!doctype html>\n{policy()}\n".encode() + stored


def section(title: str, content: str) -> Html:
    """Nothing where there is no content."""
    return Html(f"<h2>{text(title)}</h2>\n{content}" if content else "")


def picture(png: bytes, description: str) -> Html:
    """A PNG inside the page; nothing of no bytes."""
    data = base64.b64encode(png).decode()
    return Html(f'<img alt="{text(description)}" src="data:image/png;base64,{data}">' if png else "")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    head = "".join(f"<th>{text(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return Html(f"<table><tr>{head}</tr>{body}</table>")


def mark(content: str, *, good: bool) -> Html:
    return Html(f"<span class={'good' if good else 'bad'}>{text(content)}</span>")


def pre(content: str) -> Html:
    return Html(f"<pre>{text(content)}</pre>")


def text(content: str) -> Html:
    """Any text as HTML that shows it."""
    return content if isinstance(content, Html) else Html(html.escape(content))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"<td class=number>{value:.4g}</td>"
    if isinstance(value, int):
        return f"<td class=number>{value:,}</td>"
    return f"<td>{'' if value is None else text(str(value) if not isinstance(value, str) else value)}</td>"
