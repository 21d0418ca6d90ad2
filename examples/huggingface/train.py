"""A site: each `train` is a round. On its own it trains its own adapters."""

from letters import arguments, load, new_model
from transformers import Trainer

import hansa.client as flare
from hansa.client.huggingface import FederatedCallback

flare.init()
rows = load(flare.system_info()["site_name"])
trainer = Trainer(
    model=new_model(),
    args=arguments("trainer"),
    train_dataset=rows,
    eval_dataset=load(),
    callbacks=[FederatedCallback()],
)

while flare.is_running():
    trainer.train()
