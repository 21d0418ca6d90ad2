"""Response processors: the work in a workflow that asks all sites one question."""
