"""Federations that run out of the box on data that comes with a dependency.

- `digits`           handwritten digits over eight unlike sites: the pieces a data scientist would write
- `digits_report`    the comparison alone / federated / pooled, its table, figure and JSON
- `small_network`    the network, in plain NumPy
"""
