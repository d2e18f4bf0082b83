"""Asking implementations in processes of their own, and keeping what they answer."""
