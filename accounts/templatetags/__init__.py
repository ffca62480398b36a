"""Template tags about the signed-in person."""
