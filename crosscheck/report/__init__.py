"""A run's report in several formats, a module each: `terminal`, `markdown`, `data` (JSON)."""
