"""What Pixelpar promises, told as tests."""
