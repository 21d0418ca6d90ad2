"""Widgets: numbers on their way from sites to the run's history, and events that cross the federation."""
