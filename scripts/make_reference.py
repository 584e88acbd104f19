#!/usr/bin/env python3
"""Writes the answers of Hugging Face transformers for one model, for `ringtrain verify` to compare with.

    pip install torch transformers safetensors
    scripts/make_reference.py --model HF_DIRECTORY --out reference.safetensors
    ringtrain verify --load_checkpoint=params::HF_DIRECTORY --reference=reference.safetensors

Everything is computed in float32 on the CPU. The file holds, as float32 or int32:

    input_tokens, target_tokens, loss_masks    [batch, seq]
    logits                                     [batch, seq, vocab]
    loss, accuracy                             [1]
    grad.NAME                                  of every parameter, by its name in the checkpoint
    train.loss, train.gradient_norm, train.learning_rate    [train_steps]
    train.param.NAME                           after the training steps

loss and accuracy are means over sequences of the mean over the unmasked tokens of a sequence. The training
steps repeat the one batch with AdamW: betas 0.9 and 0.95, eps 1e-8, weight decay on every parameter, the global
gradient norm clipped to 1 (train.gradient_norm is before clipping), linear warm-up from 0 to --lr, then a cosine
to --end_lr at the last step. --train_steps 0 leaves the training out.
"""

import argparse
import math
import pathlib
import sys

try:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM
except ImportError as error:
    if not {"-h", "--help"} & set(sys.argv):
        sys.exit(f"make_reference: {error}; pip install torch transformers safetensors")


def random_batch(args, vocab_size):
    """Uniform tokens; about an eighth of the targets carry no loss, every sequence has some that do."""
    generator = torch.Generator().manual_seed(args.seed)
    tokens = torch.randint(0, vocab_size, (args.batch, args.seq + 1), generator=generator)
    masks = (torch.rand(args.batch, args.seq, generator=generator) > 0.125).float()
    masks[:, -1] = 1.0
    return {"input_tokens": tokens[:, :-1], "target_tokens": tokens[:, 1:], "loss_masks": masks}


def masked_mean(values, masks):
    """Mean over sequences of each sequence's mean over its unmasked tokens."""
    return ((values * masks).sum(-1) / masks.sum(-1)).mean()


def forward(model, batch):
    """logits, loss and accuracy of a batch."""
    logits = model(input_ids=batch["input_tokens"], use_cache=False).logits
    targets = batch["target_tokens"]
    token_losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    hits = (logits.argmax(-1) == targets).float()
    masks = batch["loss_masks"]
    return logits, masked_mean(token_losses, masks), masked_mean(hits, masks)


def gradients(model, loss):
    """Sets the gradient of every parameter; returns the global norm."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    return torch.sqrt(sum(p.grad.double().square().sum() for p in model.parameters())).item()


def learning_rate(step, args):
    if step < args.warmup_steps:
        return args.lr * step / args.warmup_steps
    progress = (step - args.warmup_steps) / max(args.train_steps - args.warmup_steps, 1)
    return args.end_lr + (args.lr - args.end_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def train(model, batch, args):
    """Runs the training steps; returns their train.* tensors."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, betas=(0.9, 0.95), eps=1e-8,
        weight_decay=args.weight_decay)
    curves = {"train.loss": [], "train.gradient_norm": [], "train.learning_rate": []}
    for step in range(args.train_steps):
        rate = learning_rate(step, args)
        for group in optimizer.param_groups:
            group["lr"] = rate
        _, loss, _ = forward(model, batch)
        norm = gradients(model, loss)
        if norm > args.clip:
            for parameter in model.parameters():
                parameter.grad.mul_(args.clip / norm)
        optimizer.step()
        curves["train.loss"].append(loss.item())
        curves["train.gradient_norm"].append(norm)
        curves["train.learning_rate"].append(rate)
        print(f"step {step}  loss {loss.item():.6f}  gradient_norm {norm:.6f}  lr {rate:.6g}")
    reference = {name: torch.tensor(values) for name, values in curves.items()}
    for name, parameter in model.named_parameters():
        reference[f"train.param.{name}"] = parameter.detach()
    return reference


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face directory")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="safetensors file to write")
    parser.add_argument("--inputs", help="take tokens and masks from this safetensors file "
                        "(such as an earlier reference) instead of random ones")
    parser.add_argument("--batch", type=int, default=2, help="sequences")
    parser.add_argument("--seq", type=int, default=96, help="tokens of a sequence")
    parser.add_argument("--seed", type=int, default=0, help="of the random tokens")
    parser.add_argument("--train_steps", type=int, default=10)
    parser.add_argument("--lr", type=float, default=1e-2, help="largest learning rate")
    parser.add_argument("--end_lr", type=float, default=1e-3)
    parser.add_argument("--warmup_steps", type=int, default=3)
    parser.add_argument("--weight_decay", type=float, default=0.1)
    parser.add_argument("--clip", type=float, default=1.0, help="largest global gradient norm")
    return parser.parse_args()


def main():
    args = parse_arguments()
    # "eager", so that no fused attention kernel rounds differently.
    model = AutoModelForCausalLM.from_pretrained(args.model, attn_implementation="eager")
    model.float().eval()  # eval: no dropout
    if args.inputs:
        saved = load_file(args.inputs)
        batch = {"input_tokens": saved["input_tokens"].long(),
                 "target_tokens": saved["target_tokens"].long(),
                 "loss_masks": saved["loss_masks"].float()}
    else:
        batch = random_batch(args, model.config.vocab_size)

    logits, loss, accuracy = forward(model, batch)
    norm = gradients(model, loss)
    reference = {name: (value if value.is_floating_point() else value.int()).clone()
                 for name, value in batch.items()}
    reference.update({"logits": logits.detach(), "loss": loss.detach().reshape(1),
                      "accuracy": accuracy.reshape(1)})
    for name, parameter in model.named_parameters():
        reference[f"grad.{name}"] = parameter.grad.clone()
    print(f"{args.model}: loss {loss.item():.6f}  accuracy {accuracy.item():.4f}  "
          f"gradient_norm {norm:.6f}")
    if args.train_steps > 0:
        reference.update(train(model, batch, args))

    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in reference.items()}, str(args.out))
    print(f"{args.out}: {len(reference)} tensors")


if __name__ == "__main__":
    main()
