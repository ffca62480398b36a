"""Template tags that know no room."""
