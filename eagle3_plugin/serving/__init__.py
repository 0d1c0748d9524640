"""Engines as processes: start, wait, stop; a client; the counters; a benchmark."""
