"""Two towers (Huang et al. 2013, DSSM) trained by sampled softmax, searched by inner product."""

from __future__ import annotations

