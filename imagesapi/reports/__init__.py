"""What the ledger adds up to, for people: receipts, statements, exports, and the public proof."""
