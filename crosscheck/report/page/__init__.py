"""report.html: everything that a run found, in one file that needs no network."""
