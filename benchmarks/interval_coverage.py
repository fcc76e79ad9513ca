"""How often the report's 95 % intervals of a mean difference hold the true one.

Differences are drawn from a normal distribution and from a skewed one (exponential), a few at a time; each
time both intervals of `sslbench.report.compare.differences` are worked out.

    python benchmarks/interval_coverage.py [--trials 4000] [--seed 0]
"""

from __future__ import annotations

import argparse

import numpy as np

from sslbench.report.compare.differences import bootstrap_interval, t_interval

PAIRS = (2, 3, 5, 10, 20)


def main() -> None:
    """Print a row for each distribution and number of pairs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    draws = {"normal": random.standard_normal, "exponential": random.standard_exponential}
    truths = {"normal": 0.0, "exponential": 1.0}
    print("distribution  pairs  bootstrap  Student's t   of", args.trials, "trials")
    for name, draw in draws.items():
        for pairs in PAIRS:
            hits = np.zeros(2, dtype=int)
            for _ in range(args.trials):
                gaps = draw(pairs).tolist()
                for place, interval in enumerate((bootstrap_interval(gaps), t_interval(gaps))):
                    hits[place] += interval[0] <= truths[name] <= interval[1]
            boot, student = 100 * hits / args.trials
            print(f"{name:<12}{pairs:7d}{boot:9.1f} %{student:11.1f} %", flush=True)


if __name__ == "__main__":
    main()
