"""Pages that look into several rooms."""
