"""The report as one self-contained HTML page."""

from __future__ import annotations

from sslbench.report.page.render import render_page

__all__ = ["render_page"]
