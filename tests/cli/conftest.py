from helpers.report_runs import make_run

__all__ = ["make_run"]
