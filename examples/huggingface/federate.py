"""Two sites train the adapters of one language model: `python federate.py`."""

from letters import base_model, new_model
from peft import PeftModel

import hansa
import hansa.client.huggingface as fh
from hansa.jobs import fed_avg

if __name__ == "__main__":
    job = fed_avg(model=new_model(), script="train.py", rounds=5, best_by="eval_loss", lower_is_better=True)
    run = hansa.simulate(job, sites=2)
    losses = [sum(site["eval_loss"] for site in each.metrics.values()) / 2 for each in run.history.rounds]
    print("loss of the global model by round", *(f"{loss:.2f}" for loss in losses))
    model = new_model()
    fh.load(model, run.state_dict())
    model.save_pretrained("adapter")  # PEFT's own format
    PeftModel.from_pretrained(base_model(), "adapter")
    sent, whole = sum(value.nbytes for value in run.model.values()), model.get_base_model().num_parameters() * 4
    print(f"{sent / 1e3:.0f} kB of adapters travelled, the model has {whole / 1e3:.0f} kB")
