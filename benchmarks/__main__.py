"""`python -m benchmarks [SUITE ...]`: run the suites and write bench.json."""

import sys

from benchmarks import bench
from mwaa_local.command import checkout_settings

if __name__ == "__main__":
    with checkout_settings() as settings:
        bench(sys.argv[1:], settings.state / "bench.json")
