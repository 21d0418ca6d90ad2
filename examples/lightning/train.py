"""A site: each `fit` is a round. On its own it trains its own network."""

from digits import Net, load, quiet_trainer

import hansa.client as flare
from hansa.client.lightning import FederatedCallback

flare.init()
train, test = load(flare.system_info()["site_name"])
net = Net()
trainer = quiet_trainer(callbacks=[FederatedCallback()])

while flare.is_running():
    trainer.validate(net, test)  # the global model
    trainer.fit(net, train)
