"""The outermost room: settings, addresses, and the server processes."""
