"""What accounts announces to the rooms above it."""

from __future__ import annotations

from django.dispatch import Signal

# A person verified an address for the first time and owns a new organization. Sent once per person, inside the
# transaction that makes the organization. Arguments: user (User), organization (Organization), client_address (from
# where the address was verified, as text; None when that is not known).
signed_up = Signal()

# An organization has left: whatever rooms keep of what it sent and made goes now. Sent again and again until every
# receiver has returned True. Arguments: organization (Organization).
closed = Signal()
