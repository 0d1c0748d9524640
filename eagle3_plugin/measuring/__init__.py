"""Measurements of running engines: what is asked, how, what came back, and what that says."""
