"""Executors: what a site does with a task."""
