"""`python -m crosscheck doctor`: what of this machine, its packages and its variables would spoil a comparison."""
