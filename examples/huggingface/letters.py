"""A language model, small and of random weights, and text: nothing is downloaded.

The base model is made from a seed, so that every site has the same; in earnest it would be a pretrained one, which each
site has on its disk.
"""

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

LETTERS = " abcdefghijklmnopqrstuvwxyz.,"
LENGTH = 32


def base_model():
    torch.manual_seed(7)
    config = GPT2Config(
        vocab_size=len(LETTERS),
        n_positions=LENGTH,
        n_embd=64,
        n_layer=2,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def new_model():
    adapters = LoraConfig(
        r=8, lora_alpha=32, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, task_type="CAUSAL_LM"
    )
    return get_peft_model(base_model(), adapters)


def load(site=None):
    """Sentences of one site's own words, in pieces of 32 letters; without a site those of both."""
    words = {"site-1": "the north wind blows over the sea, ", "site-2": "a small boat rides the long wave. "}
    chosen = [words[site]] if site in words else list(words.values())
    codes = [LETTERS.index(letter) for text in chosen for letter in text * 40]
    pieces = [codes[start : start + LENGTH] for start in range(0, len(codes) - LENGTH + 1, LENGTH)]
    return [{"input_ids": piece, "labels": piece} for piece in pieces]


def arguments(folder, batch=8):
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=batch,
        learning_rate=5e-3,
        use_cpu=True,
        lr_scheduler_type="constant",
        eval_on_start=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
