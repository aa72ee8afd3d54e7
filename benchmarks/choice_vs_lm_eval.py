"""Multiple choice by likelihood: mnemos beside lm-evaluation-harness' hf backend.

The same task, model and tokenizer on both sides, all made on the spot: contexts of about 120
tokens, four options of about 8, a random Llama of 5 M parameters, a byte-level BPE of 8,192
tokens trained on Python's own documentation. Two results:

choice-vs-lm-eval           items per second of scoring alone, tokenising included, both models
                            loaded before the clock starts; 32 rows a batch there, mnemos' own
                            default of 4,096 tokens (27 rows or so) here
choice-vs-lm-eval-command   seconds of a whole process: start, load, score, write the scores

Neither is reported unless both sides chose the same option for every item.
"""

from __future__ import annotations

import gc
import json
import os
import pydoc_data.topics
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import Result, alternate, compared

ITEMS = 400
BATCH = 32
REPETITIONS = 3
VOCABULARY = 8192
TASK = "local_choice"
YAML = """task: {task}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: label
metric_list: [{{metric: acc}}]
"""
OURS = """
import json, sys
from mnemos.core.nouns import Prompt, Turn
from mnemos.models.load import Checkpoint
items = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
model = Checkpoint(sys.argv[1]).load()
scores = model.choose([Prompt((Turn("prompt", i["context"]),)) for i in items],
                      [[" " + option for option in i["options"]] for i in items])
json.dump([[option.log_prob for option in row] for row in scores], open(sys.argv[3], "w"))
"""


def run() -> Iterator[Result]:
    """Both results, each as soon as it is there; RuntimeError when the sides disagree on an item."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = make(folder)
        yield _scoring(folder, items)
        yield _command(folder)


def make(folder: Path) -> list[dict[str, Any]]:
    """Write model, tokenizer, items and task into `folder`; returns the items."""
    words = " ".join(pydoc_data.topics.topics.values()).split()
    tokenizer = _tokenizer(words)
    tokenizer.save_pretrained(folder / "model")
    _model(tokenizer).save_pretrained(folder / "model")
    items = _items(words, tokenizer)
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    (folder / "tasks").mkdir()
    (folder / "tasks" / f"{TASK}.yaml").write_text(YAML.format(task=TASK, data=data), encoding="utf-8")
    return items


def _tokenizer(words: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([" ".join(words[i : i + 1000]) for i in range(0, len(words), 1000)], trainer)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def _model(tokenizer: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def _items(words: list[str], tokenizer: Any) -> list[dict[str, Any]]:
    rng = random.Random(0)

    def piece(tokens: int) -> str:
        start = rng.randrange(len(words) - tokens)
        ids = tokenizer(" ".join(words[start : start + tokens]), add_special_tokens=False)["input_ids"]
        return str(tokenizer.decode(ids[:tokens])).strip()

    return [
        {
            "context": piece(rng.randint(105, 135)),
            "options": [piece(rng.randint(6, 10)) for _ in range(4)],
            "label": rng.randrange(4),
        }
        for _ in range(ITEMS)
    ]


def _scoring(folder: Path, items: list[dict[str, Any]]) -> Result:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from mnemos.core.nouns import Prompt, Turn
    from mnemos.models import choose
    from mnemos.models.load import Checkpoint

    model = Checkpoint(str(folder / "model")).load()
    contexts = [Prompt((Turn("prompt", item["context"]),)) for item in items]
    options = [[" " + option for option in item["options"]] for item in items]
    tokens = choose.tokenized(model.tokenizer, model.renderer, contexts, options)
    peer_model = HFLM(pretrained=str(folder / "model"), device="cpu", batch_size=BATCH)
    task = TaskManager(include_path=str(folder / "tasks"), include_defaults=False).load([TASK])["tasks"][TASK]
    task.build_all_requests(rank=0, world_size=1)
    requests = task.instances
    scores: dict[str, list[list[float]]] = {}
    cpu: dict[str, list[float]] = {"ours": [], "peer": []}

    def timed(side: str, score: Callable[[], list[Any]]) -> tuple[list[Any], float]:
        gc.collect()
        start, used = time.perf_counter(), time.process_time()
        found = score()
        cpu[side].append(time.process_time() - used)
        return found, len(items) / (time.perf_counter() - start)

    def ours() -> float:
        found, rate = timed("ours", lambda: model.choose(contexts, options))
        scores["ours"] = [[option.log_prob for option in row] for row in found]
        return rate

    def peer() -> float:
        found, rate = timed("peer", lambda: peer_model.loglikelihood(requests, disable_tqdm=True))
        scores["peer"] = [[value for value, _ in found[i : i + 4]] for i in range(0, len(found), 4)]
        return rate

    ours(), peer_model.loglikelihood(requests[: 4 * BATCH], disable_tqdm=True)
    cpu["ours"].clear()
    sides = alternate(ours, peer, REPETITIONS)
    details = {
        **agreement(scores["ours"], scores["peer"]),
        "items": len(items),
        "cpu seconds": cpu,
        "tokens of a context, mean": statistics.mean(len(item.context) for item in tokens),
        "tokens of an option, mean": statistics.mean(len(option) for item in tokens for option in item.options),
        "parameters": sum(p.numel() for p in model.model.parameters()),
    }
    return compared(
        "choice-vs-lm-eval", sides, unit="items/s", direction="higher is better", bound=2.5, details=details
    )


def agreement(ours: list[list[float]], peer: list[list[float]]) -> dict[str, float]:
    """Raise unless both sides choose the same option everywhere; the largest difference in nats."""
    differ = [i for i, (a, b) in enumerate(zip(ours, peer, strict=True)) if a.index(max(a)) != b.index(max(b))]
    if differ:
        raise RuntimeError(f"{len(differ)} items chosen differently, first {differ[0]}: {ours[differ[0]]}")
    largest = max(abs(x - y) for a, b in zip(ours, peer, strict=True) for x, y in zip(a, b, strict=True))
    return {"largest difference in log_prob": largest}


def _command(folder: Path) -> Result:
    script = folder / "ours.py"
    script.write_text(OURS, encoding="utf-8")
    model, data, found = str(folder / "model"), str(folder / "items.jsonl"), folder / "ours.json"
    peer_command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model}"]
    peer_command += ["--tasks", TASK, "--include_path", str(folder / "tasks"), "--batch_size", str(BATCH)]
    peer_command += ["--device", "cpu", "--output_path", str(folder / "peer"), "--log_samples"]

    def ours() -> float:
        return _timed([sys.executable, str(script), model, data, str(found)])

    def peer() -> float:
        return _timed(peer_command)

    sides = alternate(ours, peer, 3)
    samples = sorted((folder / "peer").rglob("samples_*.jsonl"))[-1].read_text(encoding="utf-8").splitlines()
    rows = sorted((json.loads(line) for line in samples), key=lambda row: row["doc_id"])
    theirs = [[float(pair[0]) for pair in row["filtered_resps"]] for row in rows]
    details = {**agreement(json.loads(found.read_text()), theirs), "items": len(rows)}
    return compared(
        "choice-vs-lm-eval-command", sides, unit="s", direction="lower is better", bound=0.5, details=details
    )


def _timed(command: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - start
