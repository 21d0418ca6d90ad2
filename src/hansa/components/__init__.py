"""Ready-made parts that jobs name in their config.

- `workflows`: controllers that run a federation from start to end
- `executors`: what works on a task at a site
- `aggregators`: many updates into one
- `shareablegenerators`: between the global model and the messages of a round
- `filters`: change what goes out or comes in
- `handlers`: listen to events: model selection, early stopping, recording
- `widgets`: analytics, federated events, collected messages
- `np_model`: models of NumPy arrays: persistor and locator
"""
