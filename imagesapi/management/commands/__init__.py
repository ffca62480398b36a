"""Operators' commands for the catalogue and the providers."""
