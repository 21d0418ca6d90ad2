"""The mathematics on arrays; knows nothing of federations and runs in a notebook.

- `fold`: the fixed tree in which the terms of a round are combined, whatever arrives first
- `weighted_mean`: federated averaging (arXiv:1602.05629)
- `reading`: a contribution on its way into the sum: checked, and gathered where it is of many small tensors
- `layout`: where variables lie in the flat memory of a sum, and where that memory comes from
- `checks`: what a contribution must fulfil before it counts
- `arrays`: what the rules take as numbers, and the types in which they add
- `partition`: how one data set is split over sites
- `fed_opt`: an optimizer on the server (arXiv:2003.00295)
- `fed_prox`: a term in the sites' losses that keeps them near the global model (arXiv:1812.06127)
- `scaffold`: control variates against the drift of unlike sites (arXiv:1910.06378)
- `fed_bn`: batch normalisation stays at its site (arXiv:2102.07623)
- `ditto`: a model of its own for every site (arXiv:2012.04221)
- `schedules`: numbers that change from round to round, such as learning rates
- `named_tensors`: choosing tensors by name, and holding dicts of them against each other
"""
