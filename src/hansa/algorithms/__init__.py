"""The mathematics on arrays; knows nothing of federations and runs in a notebook.

- `fold`: the fixed tree in which the terms of a round are combined, whatever arrives first
- `weighted_mean`: federated averaging (arXiv:1602.05629)
- `reading`: a contribution on its way into the sum: checked, and gathered where it is of many small tensors
- `layout`: where variables lie in the flat memory of a sum, and where that memory comes from
- `checks`: what a contribution must fulfil before it counts
- `arrays`: what the rules take as numbers, and the types in which they add
- `partition`: how one data set is split over sites
"""
