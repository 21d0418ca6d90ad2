"""Handlers: components that work by hearing the events of a training."""
