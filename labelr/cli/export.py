"""``labelr export``."""

from pathlib import Path
from typing import Annotated, Any

from labelr import console
from labelr.cli import completion
from labelr.cli import options as opt
from labelr.config import ExportOptions

Output = Annotated[
    Path | None,
    opt.option("--output -o", "File to write. Default: NAME.onnx in this directory.", "Output", metavar="FILE"),
]
TrainingData = Annotated[
    list[Path] | None,
    opt.option(
        "--data", "For --int8: folder of the training data, if it was moved; repeat for several.", "Data", metavar="DIR"
    ),
]


@opt.takes_settings(ExportOptions, common=("format", "output", "force", "int8"))
def export(
    printing: opt.Printing,
    name: Annotated[str, opt.argument("NAME", "Name or directory of a model.", completion.models)],
    data: TrainingData = None,
    output: Output = None,
    force: opt.Force = False,
    **settings: Any,
) -> None:
    """Write a model as an ONNX file for other programs, and for tagging without torch.

    The file takes the pixels of any number of images and gives calibrated probabilities. Labels, thresholds and how
    images are prepared are in its metadata. It is kept only if its probabilities are those of the saved model. Prints
    its path. Requires the extra `export`.

    Examples:
        labelr export birds
        labelr export birds --int8 --output birds-int8.onnx
    """
    options = ExportOptions.of(settings)
    from labelr.exporting.export import export as export_onnx

    with printing.session() as track:
        done = export_onnx(name, output, options, data=data or (), force=force, track=track)
    if printing.json:
        console.show_json(done.to_json())
        return
    same = f"probabilities differ by at most {done.max_difference:.0e} from the saved model's"
    console.show_note(f"{done.bytes / 1e6:,.1f} MB in {done.precision}; {'' if options.int8 else same}".rstrip("; "))
    console.show_line(done.path)
