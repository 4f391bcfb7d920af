"""Faults on a running cluster, and their healing."""
