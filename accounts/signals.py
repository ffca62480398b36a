"""What accounts announces to the rooms above it."""

from __future__ import annotations

from django.dispatch import Signal

# A person verified an address for the first time and owns a new organization. Sent once per person, inside the
# transaction that makes the organization. Arguments: user (User), organization (Organization).
signed_up = Signal()
