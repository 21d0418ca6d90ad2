"""Federated averaging with an Executor."""
