"""Images: the catalogue, the OpenAI-compatible API, the providers behind it, and what they made."""
