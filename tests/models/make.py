"""Makes the model of the present format that tests keep: ``python tests/models/make.py`` in the repository.

Run it when `FORMAT` in `labelr/model/info.py` has grown, and keep the folders of earlier formats: tests read them all.
The network is narrower than `labelr fit` makes any, so that the archive is small; its weights are random.
"""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from labelr.data.synthetic import make_synthetic_dataset
from labelr.model import store
from labelr.model.archive import export_archive
from labelr.model.info import FORMAT
from labelr.model.predict import build_network
from labelr.training.fit import fit

SETTINGS = {"image_size": 32, "width": 0.125, "epochs": 2, "batch_size": 8, "threads": 1, "report": False}


def main() -> None:
    """Writes ``format-N/``: the archive, an image, and its probabilities."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["LABELR_HOME"] = f"{name}/home"
        data = make_synthetic_dataset(Path(name, "shapes"), 60, 3)
        folder = fit(data, SETTINGS, name="shapes").model.path
        info = store.load_info(folder)
        info = replace(info, architecture=replace(info.architecture, width=0.01))
        torch.manual_seed(0)
        network = build_network(info).train()
        for _ in range(20):
            network(torch.randn(16, 3, 32, 32))  # so that BatchNorms have statistics
        store.save(folder, network.eval(), info)
        place = Path(__file__).parent / f"format-{FORMAT}"
        place.mkdir(exist_ok=True)
        export_archive("shapes", place / "model.zip", force=True)
        shutil.copy(data / "images" / "00000.png", place / "image.png")
        _, probs = store.load("shapes", device="cpu", amp=False, threads=1).predict([place / "image.png"])
        rows = (f"{label},{prob:.6f}" for label, prob in zip(info.labels, probs[0], strict=True))
        (place / "probabilities.csv").write_text("\n".join(["label,probability", *rows, ""]))


if __name__ == "__main__":
    main()
