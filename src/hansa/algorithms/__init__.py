"""The mathematics on arrays; knows nothing of federations and runs in a notebook.

- `fold`: the fixed tree in which the terms of a round are combined, whatever arrives first
- `weighted_mean`: federated averaging (arXiv:1602.05629)
- `checks`: what a contribution must fulfil before it counts
- `arrays`: what the rules take as numbers, and the types in which they add
- `partition`: how one data set is split over sites
"""
