"""Pipes: two ends that exchange topics with bytes through a place that both reach."""
