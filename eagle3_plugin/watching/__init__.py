"""A running engine seen from outside: its counters over time, and an alarm on its acceptance."""
