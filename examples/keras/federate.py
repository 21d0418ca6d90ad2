"""Two sites train one Keras model: `python federate.py`."""

from digits import load, new_model

import hansa
import hansa.client.keras as fk
from hansa.jobs import fed_avg

if __name__ == "__main__":
    job = fed_avg(model=new_model(), script="train.py", rounds=5, best_by="accuracy")
    run = hansa.simulate(job, sites=2)
    model = new_model()
    fk.load(model, run.model)  # the global model; model.save("model.keras") keeps it
    _, _, test_x, test_y = load()
    print(f"accuracy of the global model {model.evaluate(test_x, test_y, verbose=0)[1]:.3f}")
