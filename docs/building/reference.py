"""The pages of the reference: which public names stand on which, and under what title."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Page:
    """One page: its title, a sentence below it, and what it documents, from top to bottom.

    Args:
        title: of the page.
        sentence: below it.
        names: what a user types.
        members: the methods of its classes that are for users; None: all that are public.
    """

    title: str
    sentence: str
    names: tuple[str, ...]
    members: tuple[str, ...] | None = None


def _page(
    title: str, sentence: str, package: str, names: str, members: tuple[str, ...] | None = None
) -> Page:
    """A page of names of one package, with spaces between them."""
    return Page(title, sentence, tuple(f"{package}.{name}" for name in names.split()), members)


# Documented as modules, for the formulas that they have.
MODULES = ("fsc.methods.feature_losses",)
# What the classes of methods have beside these, fsc itself calls.
_FOR_USERS = ("align", "mimic", "teach")


PAGES = {
    "api/compress.md": _page(
        "Compressing",
        "One call, what it gives back, and what can be asked before.",
        "fsc",
        "compress Result Report report.page inspect Inspection CompressionWarning",
    ),
    "api/saving.md": _page(
        "Saving, exporting and rewriting",
        "Students on disk, also for other programs, and teachers in layers of torch.nn.",
        "fsc",
        "save load save_pretrained from_pretrained export Exported plain",
    ),
    "api/many.md": _page(
        "Many compressions",
        "Sweeps over a hyper-parameter or the number of images, and pruning by turns.",
        "fsc",
        "sweep SweepRun prune_iteratively IterativeResult Candidate",
    ),
    "api/methods.md": _page(
        "The default, Cross Distillation, FSKD, MiR",
        "What `method=` takes; [Methods](../methods.md) says what each of them reproduces.",
        "fsc",
        "SolveThenTrain CrossDistillation FSKD methods.JointSGD MiR ProgressiveMiR",
        _FOR_USERS,
    ),
    "api/baselines.md": _page(
        "Baselines, and methods with labels",
        "What `method=` takes as well, and the alternation of training and alignment.",
        "fsc",
        "L1Norm ThiNet ChannelPruning Grail BackProp KD FitNet Alternation",
        _FOR_USERS,
    ),
    "api/objectives.md": _page(
        "Objectives and solvers",
        "What `CrossDistillation(objective, solver)` takes.",
        "fsc",
        "Estimation Correction Imitation Convex Soft"
        " solvers.ClosedForm solvers.Accelerated solvers.Proximal",
        (),
    ),
    "api/own_methods.md": _page(
        "A method of your own",
        "What a method is given and makes, the schedule that those with gradient steps share, and"
        " teacher and student side by side.",
        "fsc",
        "methods.Method methods.Task methods.Outcome methods.LayerReport methods.schedule.Schedule"
        " methods.feature_losses walk Moments",
    ),
    "api/schemes.md": _page(
        "Schemes",
        "What stays of a network, as data.",
        "fsc.schemes",
        "Scheme SparseScheme QuantizedScheme DropBlocks Decoupling AnyScheme structured sparse"
        " quantized slimming pointwise_alone names named fits from_json find check channels_left"
        " by_scale check_sparse check_quantized check_blocks named_layers",
    ),
    "api/models.md": _page(
        "Models",
        "Networks by name.",
        "fsc.models",
        "names build skeleton family normalization image_side example_inputs",
    ),
    "api/images.md": _page(
        "Images",
        "Data sets, folders, samples of a few images, and more made from them.",
        "fsc.images",
        "folder.ImageFolder folder.splits data.load data.Split data.to_tensor"
        " preparation.Preparation sampling.sample_per_class sampling.sample_random"
        " sampling.FewShotSample augmentation.augmented augmentation.filled_up",
    ),
    "api/training.md": _page(
        "Training and accuracy",
        "With labels: accuracy, training, fine-tuning.",
        "fsc.training",
        "evaluate.accuracy evaluate.accuracies supervised.train finetuning.FineTuning"
        " finetuning.recalibrate_batch_norm zeros.Zeros lightning_callback.keep_student"
        " resumption.TrainingFile resumption.identity_of",
    ),
    "api/report.md": _page(
        "Analyses and figures",
        "What the papers' analyses measure, and curves.",
        "fsc.report",
        "analysis.layer_errors analysis.estimation_bound correlation.correlations"
        " recovery.accuracy_along pointwise.pointwise_matrix pointwise.draw curves_figure.Curve"
        " curves_figure.draw",
    ),
    "api/ranks.md": _page(
        "Several processes",
        "Inside a process group; [Several machines](../several_machines.md) says how to start one.",
        "fsc.ranks",
        "alone RankLost",
    ),
    "api/operators_distillation.md": _page(
        "Distillation",
        "The loss of a layer, and its parts. [In your own training loop](../cross_distill_layer.md)"
        " shows the first of them at work.",
        "fsc_ext",
        "cross_distill_layer soft_cross_mix distill_residual",
    ),
    "api/operators_projections.md": _page(
        "Thresholds and projections",
        "Proximal operators, hard projections, few bits.",
        "fsc_ext",
        "prox_l1 prox_l1_ prox_group_l2 prox_group_l2_ foreach_prox_group_l2_ keep_topk_"
        " keep_topk_groups_ quantize_weight prox_quantize",
    ),
    "api/operators_steps.md": _page(
        "Steps and solvers",
        "A step of an optimiser with its proximal operator, and the loop of such steps on a layer.",
        "fsc_ext",
        "adam_prox_ sgd_prox_ foreach_adam_prox_ foreach_sgd_prox_ solve_quadratic_ solve_relu_"
        " line_search_relu_",
    ),
    "api/operators_moments.md": _page(
        "Moments and folding",
        "Gram matrices, what follows from them, and layers that absorb what stands behind them.",
        "fsc_ext",
        "gram_accumulate_ elimination_order fuse_conv_bn foreach_fuse_conv_bn absorb_conv1x1"
        " foreach_absorb_conv1x1 build_info",
    ),
}


def identifier(name: str) -> str:
    """Where a public name is defined, for a function that shares its name with its module."""
    file = (ROOT / "python" / name.replace(".", "/")).with_suffix(".py")
    return f"{name}.{name.rpartition('.')[2]}" if file.exists() and name not in MODULES else name


def markdown(page: Page) -> str:
    """The page as mkdocstrings reads it."""
    text = f"# {page.title}\n\n{page.sentence}\n"
    for name in page.names:
        options = "" if page.members is None else f"      members: {list(page.members)}\n"
        if identifier(name) != name:
            options += f"      heading: {name}\n      toc_label: {name.rpartition('.')[2]}\n"
        text += f"\n::: {identifier(name)}\n" + (f"    options:\n{options}" if options else "")
    return text


def navigation() -> list[dict[str, list[dict[str, str]]]]:
    """The entries of the navigation: `fsc` and `fsc_ext`, each with its pages."""
    rooms: dict[str, list[dict[str, str]]] = {"Reference: fsc": [], "Reference: fsc_ext": []}
    for path, page in PAGES.items():
        package = page.names[0].split(".")[0]
        rooms[f"Reference: {package}"].append({page.title: path})
    return [{title: pages} for title, pages in rooms.items()]
