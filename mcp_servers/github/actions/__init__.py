"""What changes something on GitHub."""
