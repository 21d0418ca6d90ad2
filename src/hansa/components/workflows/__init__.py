"""Workflows: what the server asks of the sites, in which order."""
