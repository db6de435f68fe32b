"""Train the embedded model: one command from nothing to a checkpoint.

    python models/nano/train.py

Builds the tokenizer, trains by masked diffusion on exercises of the training side, watches exact match on held-out
ones, and writes `checkpoint/` and `curves.png`. Run again, it resumes the run in the run folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

import checkpoint
import curves
import torch
from batches import Batch, Batches
from exercises import KINDS
from muon import Muon
from network import Denoiser
from questions import questions
from sampler import marks, merge
from tokenizer import build
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from workers import Workers, replica

HERE = Path(__file__).parent
WARMUP_STEPS = 100
BOLD, BOLDNESS = 0.35, 3.0
"""The first share of the time, and the factor of its higher rate: copying is learnt there, and little else settles."""
DECAY = 0.35
"""The last share of the time, over which the rate falls to zero."""
SMOOTHING = 0.98
"""The smoothing of each kind's running loss."""
LEAST, MOST = 0.3, 3.0
"""The bounds of a kind's share of the data."""


def rate(step: int, done: float) -> float:
    """Return the factor of the learning rate, by the clock: warm-up, bold start, plateau, decay."""
    start = min(1.0, (step + 1) / WARMUP_STEPS) * (BOLDNESS if done < BOLD else 1.0)
    return start * min(1.0, max(0.0, 1 - done) / DECAY)


def losses(network: Denoiser, batch: Batch) -> Tensor:
    """Return the weighted cross-entropy of every masked token, in the order of batch.masked."""
    logits = network(batch.ids, batch.masked)
    return F.cross_entropy(logits, batch.targets[batch.masked], reduction="none") * batch.weights[batch.masked]


def optimizers(network: Denoiser, lr: float, table_lr: float, workers: Workers) -> list[torch.optim.Optimizer]:
    """Return Muon for the hidden matrices, and AdamW for the table, the norms and the bias."""
    stacked = {"Wqkv": 3, "Wi": 2}
    hidden = {name: p for name, p in network.named_parameters() if p.ndim == 2 and "tok_embeddings" not in name}
    others = [p for name, p in network.named_parameters() if name not in hidden]
    matrices = [(p, stacked.get(name.split(".")[-2], 1)) for name, p in hidden.items()]
    adam = torch.optim.AdamW(others, lr=table_lr, betas=(0.9, 0.98), weight_decay=0.0, foreach=True)
    return [Muon(matrices, workers, lr=lr), adam]


class Run:
    """A training run that can be stopped and resumed.

    Args:
        options: The options of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.step, self.seconds, self.smooth = 0, 0.0, 0.0
        self.tokenizer = build()
        torch.manual_seed(options.seed)
        self.network = Denoiser(self.tokenizer.get_vocab_size())
        self.rates = (options.lr, options.table_lr)
        self.workers = Workers(options.threads)
        self.replicas = [replica(self.network) for _ in range(options.threads)]
        self.optimizers = optimizers(self.network, *self.rates, self.workers)
        self.batches = self.streams()
        self.kind_loss = [1.0] * len(KINDS)
        self.history: list[dict[str, Any]] = []
        if self.state_file.exists() and not options.restart:
            self.load()

    @property
    def state_file(self) -> Path:
        """The file that the run is saved in."""
        return self.options.run / "state.pt"

    def save(self) -> None:
        """Save everything that is needed to resume, in a draft that then replaces the file."""
        state = {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scalars": {name: getattr(self, name) for name in ("kind_loss", "step", "seconds", "smooth", "history")},
        }
        draft = self.state_file.with_suffix(".draft")
        torch.save(state, draft)
        draft.replace(self.state_file)

    def load(self) -> None:
        """Resume a saved run; the exercises continue from a seed of their own."""
        state = torch.load(self.state_file, weights_only=True)
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, value in state["scalars"].items():
            setattr(self, name, value)
        self.smooth = float(self.smooth)
        self.batches = self.streams()
        print(f"resuming at step {self.step}, {self.seconds / 60:.1f} minutes in")

    def streams(self) -> list[Batches]:
        """Return one stream of batches for each thread."""
        first, size = self.options.seed + self.step, self.options.batch // self.options.threads
        return [Batches(self.tokenizer, size, 1000 * first + i) for i in range(self.options.threads)]

    def gradient(self, network: Denoiser, batches: Batches) -> tuple[Batch, Tensor]:
        """Leave the gradient of the next batch's loss in a replica."""
        batch = next(batches)
        each = losses(network, batch)
        network.zero_grad()
        (each.sum() / batch.lengths.sum()).backward()
        return batch, each.detach()

    def update(self) -> None:
        """Take one step: every thread its own batch, then one update of the mean gradient."""
        results = self.workers.map(self.gradient, self.replicas, self.batches)
        for parameter, *copies in zip(*(n.parameters() for n in (self.network, *self.replicas)), strict=True):
            parameter.grad = torch.stack([copy.grad for copy in copies]).mean(0)
        factor = rate(self.step, self.seconds / (60 * self.options.minutes))
        for optimizer, lr in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
            optimizer.step()
        loss = sum((each.sum() / batch.lengths.sum()).item() for batch, each in results) / len(results)
        self.smooth += (loss - self.smooth) * max(0.01, 1 / (self.step + 1))
        self.step += 1
        for batch, each in results:
            self.balance(batch, each)

    def balance(self, batch: Batch, each: Tensor) -> None:
        """Draw kinds with a high training loss per token more often."""
        if not batch.kinds:
            return
        owner = batch.masked.nonzero()[:, 0]
        rows = torch.zeros(len(batch.kinds)).index_add_(0, owner, each) / batch.lengths
        kinds = torch.tensor(batch.kinds)
        for kind in set(batch.kinds):
            mean = rows[kinds == kind].mean().item()
            self.kind_loss[kind] = SMOOTHING * self.kind_loss[kind] + (1 - SMOOTHING) * mean
        middle = sum(self.kind_loss) / len(self.kind_loss)
        for batches in self.batches:
            batches.shares = [min(MOST, max(LEAST, loss / middle)) for loss in self.kind_loss]

    def watch(self, count: int) -> None:
        """Measure exact match on held-out questions, print it, log it."""
        exercises = list(islice(questions(self.options.seed, "held-out"), count))
        parts = [exercises[i :: self.options.threads] for i in range(self.options.threads)]
        match = merge(self.workers.map(lambda part: marks(self.network, self.tokenizer, part), parts))
        row = {"minutes": round(self.seconds / 60, 2), "step": self.step, "loss": round(self.smooth, 5), **match}
        self.history.append(row)
        print(" ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)
        with (self.options.run / "log.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["minutes", "step", "loss", "overall", *KINDS])
            writer.writeheader()
            writer.writerows(self.history)

    def train(self) -> None:
        """Step until the time is up; only training counts as time, not watching."""
        watched = saved = self.seconds
        while self.seconds < 60 * self.options.minutes:
            start = time.monotonic()
            self.update()
            self.seconds += time.monotonic() - start
            if self.step % 100 == 0:
                print(f"step {self.step} minutes {self.seconds / 60:.1f} loss {self.smooth:.4f}", flush=True)
            if self.seconds - saved > 60 * self.options.save_every:
                saved = self.seconds
                self.save()
            if self.seconds - watched > 60 * self.options.watch_every:
                watched = self.seconds
                self.watch(self.options.watch_count)

    def finish(self) -> None:
        """Write the checkpoint, measure what was written, draw the curves."""
        self.save()
        checkpoint.write(self.network, self.tokenizer, self.options.out)
        print(f"largest difference from transformers' logits: {checkpoint.difference(self.options.out):.1e}")
        self.network = checkpoint.read(self.options.out)
        self.watch(self.options.final_count)
        (self.options.run / "result.json").write_text(json.dumps(self.history[-1], indent=1) + "\n")
        curves.draw(self.history, self.options.curves)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=75, help="training time; the learning rate's decay fits it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64, help="sequences a step")
    parser.add_argument("--lr", type=float, default=1e-3, help="of the hidden matrices")
    parser.add_argument("--table-lr", type=float, default=7e-4, help="of the embedding, the norms and the bias")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--restart", action="store_true", help="begin anew although the run folder holds a run")
    parser.add_argument("--save-every", type=float, default=3, metavar="MINUTES")
    parser.add_argument("--watch-every", type=float, default=5, metavar="MINUTES")
    parser.add_argument("--watch-count", type=int, default=130, help="held-out questions while training")
    parser.add_argument("--final-count", type=int, default=650, help="held-out questions at the end")
    parser.add_argument("--run", type=Path, default=HERE / "run")
    parser.add_argument("--out", type=Path, default=HERE / "checkpoint")
    parser.add_argument("--curves", type=Path, default=HERE / "curves.png")
    options = parser.parse_args()
    options.run.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    print(f"{sum(p.numel() for p in run.network.parameters()):,} parameters")
    run.train()
    run.finish()


if __name__ == "__main__":
    main()
