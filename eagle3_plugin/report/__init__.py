"""A result of `eagle3 bench` as a page, as Markdown and as CSV, for people."""
