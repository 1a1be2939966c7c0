"""A short training that test_fit_killed runs in processes of its own: fit_worker.py DIRECTORY prints the hash."""

import sys

import torch
from cem_mhch import CEM, FitConfig, HandoffModel, Vocab, fit, simulate
from sail_core.runs import seed_everything

if __name__ == "__main__":
    torch.set_num_threads(1)
    dialogues = simulate(60, seed=1).dialogues
    vocab = Vocab.build(dialogues)
    seed_everything(0)
    model = CEM(HandoffModel.build("hgru", vocab_size=len(vocab), size=16, embedding_size=16))
    result = fit(model, dialogues[:48], dialogues[48:], vocab=vocab, config=FitConfig(epochs=20), directory=sys.argv[1])
    print(result.weights)
