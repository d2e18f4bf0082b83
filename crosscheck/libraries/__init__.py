"""What other people's libraries do, seen by running them: tables as data, with versions and date; their pages."""
