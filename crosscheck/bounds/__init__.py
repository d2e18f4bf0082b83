"""How far two honest sides may part, each with its derivation."""
