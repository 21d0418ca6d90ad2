"""An ordinary training script, as it was before anybody thought of a federation."""

import torch
from digits import Net, load

net = Net()
loader, (test_x, test_y) = load()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

for x, y in loader:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()

accuracy = (net(test_x).argmax(1) == test_y).float().mean()
print(f"accuracy {accuracy:.3f}")
