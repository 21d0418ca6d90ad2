"""Eight sites train one network: `python federate.py`."""

from digits import Net, load

import hansa
from hansa.jobs import fed_avg

if __name__ == "__main__":
    job = fed_avg(model=Net(), script="train.py", rounds=5)
    run = hansa.simulate(job, sites=8)
    net = Net()
    net.load_state_dict(run.state_dict())  # the global model
    _, (test_x, test_y) = load()
    print(f"accuracy of the global model {(net(test_x).argmax(1) == test_y).float().mean():.3f}")
    print("figure:", run.plot())
