"""One knowledge self-edit as SEAL trains it: one sequence a step, each padded, the pads in the loss."""

from common import Clock, answer, read_request, torch, trainer

PAD = 0

request = read_request()
step = trainer(request)


def padded(ids):
    pads = max(0, request["pad_to"] - len(ids))
    # SEAL's labels are a copy of the padded ids; only attention leaves the pads out.
    row = torch.tensor([ids + [PAD] * pads])
    mask = torch.tensor([[1] * len(ids) + [0] * pads])
    return {"input_ids": row, "attention_mask": mask, "labels": row.clone()}


batches = [padded(sequence["ids"]) for sequence in request["batch"]]
steps = len(batches) * request["epochs"]
clock = Clock()
losses = []
for number in range(steps):
    # Hugging Face's linear schedule without warm-up.
    learning_rate = request["learning_rate"] * (steps - number) / steps
    losses.append(step(batches[number % len(batches)], learning_rate))
answer(clock.read(), losses=losses)
