"""The commands ``sslbench``, ``sslbench-eval`` and ``sslbench-report``."""
