"""Who decides what a request may cost. One policy a file."""
