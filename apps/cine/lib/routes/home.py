"""GET / and /docs: the addresses as a plain page, without scripts and without other servers."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from lib.http.guard import Reader

router = APIRouter(include_in_schema=False)

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{font-family: sans-serif; margin: 2em}} td {{padding: .2em .8em .2em 0}}</style>
<h1>{title} {version}</h1>
<p>In 3D Slicer open the module MONAI Label and type the address of this page as server.
What each address takes and answers is described in <a href="openapi.json">openapi.json</a>.</p>
<table>{rows}</table></html>
"""


@router.get("/", response_class=HTMLResponse)
@router.get("/docs", response_class=HTMLResponse)
def home(request: Request, _: Reader) -> HTMLResponse:
    document: dict[str, Any] = request.app.openapi()
    rows = [
        f"<tr><td>{escape(method.upper())}</td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(operation.get('summary', ''))}</td></tr>"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    page = _PAGE.format(
        title=escape(document["info"]["title"]),
        version=escape(document["info"]["version"]),
        rows="\n".join(rows),
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})
