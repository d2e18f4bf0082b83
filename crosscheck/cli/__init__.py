"""The command line: what is asked for, and what is printed and left behind."""
