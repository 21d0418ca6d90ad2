"""Two sites train one network: `python federate.py`."""

from digits import Net, load, quiet_trainer

import hansa
from hansa.jobs import fed_avg

if __name__ == "__main__":
    job = fed_avg(model=Net(), script="train.py", rounds=5, best_by="accuracy")
    run = hansa.simulate(job, sites=2)
    net = Net()
    net.load_state_dict(run.state_dict())  # the global model
    [measured] = quiet_trainer().validate(net, load()[1], verbose=False)
    print(f"accuracy of the global model {measured['accuracy']:.3f}")
