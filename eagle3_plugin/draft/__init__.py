"""What a draft is: one canonical form in memory, dialects at the edges."""
