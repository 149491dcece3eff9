"""LoRA steps on one batch with PyTorch, Transformers and PEFT, as one would write them."""

from common import Clock, answer, read_request, torch, trainer

request = read_request()
step = trainer(request)
ids = torch.tensor([sequence["ids"] for sequence in request["batch"]])
labels = ids.clone()
for row, sequence in enumerate(request["batch"]):
    labels[row, : sequence["labelled_from"]] = -100
batch = {"input_ids": ids, "labels": labels}

losses = [step(batch, request["learning_rate"]) for _ in range(request["warmup"])]
clock = Clock()
losses += [step(batch, request["learning_rate"]) for _ in range(request["steps"])]
answer(clock.read(), losses=losses)
