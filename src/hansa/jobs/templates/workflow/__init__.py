"""A workflow of its own."""
