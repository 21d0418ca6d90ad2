"""A plug-in for Hansa: an aggregator that outliers do not move, and a workflow in which the best model wins."""
