"""Runs of a mnemoscope store as offline runs of Weights & Biases, for `wandb sync` later.

    python to_wandb.py runs [PROJECT]

A run keeps its id, so giving the command again writes the same runs. Needs the package `wandb`, and no account.
"""

import json
import pathlib
import sys

import wandb


def body(path):
    """The content of a JSON file of a record, without its envelope."""
    return json.loads(path.read_text())["body"]


def numbers(events):
    """What was recorded along training: step and named numbers."""
    for line in events.read_text().splitlines():
        event = json.loads(line)["event"]
        data = event["data"]
        if event["kind"] == "loss":
            yield data["step"], {"loss": data["loss_nats"]}
        elif event["kind"] == "curve" and data["n_trials"]:
            yield data["step"], {f"error_rate/{data['set']}": data["n_errors"] / data["n_trials"]}


def main(store, project="mnemoscope"):
    for result in sorted(pathlib.Path(store).glob("*/result.json")):
        record = result.parent
        meta, plan = body(record / "record.json")["meta"], body(record / "plan.json")
        run = wandb.init(
            mode="offline",
            project=project,
            group=meta.get("arm"),
            name=f"{meta.get('arm')} {record.name}",
            id=record.name,
            config=plan,
            settings=wandb.Settings(console="off", x_disable_stats=True),
        )
        by_step = {}
        for step, named in numbers(record / "events.jsonl"):
            by_step.setdefault(step, {}).update(named)
        for step in sorted(by_step):
            run.log(by_step[step], step=step)
        for name, measured in body(result)["eval"].items():
            run.summary[f"final/{name}/error_rate"] = measured["error_rate"]
            run.summary[f"final/{name}/interval"] = measured["interval"]
        run.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
