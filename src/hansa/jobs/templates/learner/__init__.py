"""Federated averaging with a Learner."""
