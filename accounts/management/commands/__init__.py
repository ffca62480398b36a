"""Operators' commands for organizations and keys."""
