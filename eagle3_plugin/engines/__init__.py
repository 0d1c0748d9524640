"""The only place that knows that an engine exists."""
