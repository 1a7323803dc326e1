"""One script a claim. Each runs as ``python -m benchmarks.NAME`` and ends in one line of JSON."""
