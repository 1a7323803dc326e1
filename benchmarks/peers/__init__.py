"""One contender a file: what `benchmarks.training_vs_peers` runs, each in a process of its own.

All but ``ours`` run in an environment of their own and import nothing of headrace.
"""
