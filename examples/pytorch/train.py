"""The same script as a site of a federation; on its own it still runs as before."""

import torch
from digits import Net, load

import hansa.client as flare

flare.init()
net = Net()
loader, (test_x, test_y) = load(flare.system_info()["site_name"])
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

while flare.is_running():
    net.load_state_dict(flare.receive().params)

    for x, y in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    accuracy = (net(test_x).argmax(1) == test_y).float().mean()
    print(f"accuracy {accuracy:.3f}")
    flare.send(flare.FLModel(params=net.state_dict(), metrics={"accuracy": accuracy}, num_steps=len(loader)))
