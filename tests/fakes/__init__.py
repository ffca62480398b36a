"""Real local servers that stand in for the services we call, strict about their rules and rude on request."""
