"""``python -m headrace``."""

from .cli import main

main()
