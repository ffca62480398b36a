"""People, organizations, keys, and the pages about them."""
