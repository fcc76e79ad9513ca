"""What the command ``sslbench-report`` does: from many ``result.json`` to tables, figures and a page."""
