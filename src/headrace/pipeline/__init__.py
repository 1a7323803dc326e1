"""From samples to a trained cascade: what learns when, from whom, and who judges."""
