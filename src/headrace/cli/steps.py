"""Long work in named steps, announced and timed."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console


class Steps:
    """Announces named pieces of work, and remembers how long each took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Generator[None]:
        start = time.perf_counter()
        if not self._console.is_terminal:
            self._console.print(f"{name} ...", highlight=False)
        yield
        self.seconds[name] = time.perf_counter() - start
        self._console.print(
            f"[green]✓[/] {name} [dim]{self.seconds[name]:.1f} s[/]", highlight=False
        )
