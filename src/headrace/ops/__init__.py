"""Kernels, one a file. Each has a plain reference in its tests; nothing here imports headrace."""
