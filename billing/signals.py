"""What billing announces to the rooms above it."""

from __future__ import annotations

from django.dispatch import Signal

# A budget's use has passed 80 or 100 %. Sent once for each window and threshold, inside the transaction that notes it.
# Arguments: organization_id (int), event_id (UUID), data (dict, as the API shows a budget, with the threshold).
budget_reached = Signal()
