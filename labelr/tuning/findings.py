"""What a search has found, in sentences for people who want the best settings and to know whether to believe them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from labelr.config import TrainConfig
from labelr.errors import pluralize, preview
from labelr.scoring.report.charts import axis_fraction
from labelr.scoring.report.text import Headline
from labelr.tuning.charts import completed, score_name, setting_name, settings_text
from labelr.tuning.outcome import Outcome
from labelr.tuning.space import Range, said
from labelr.tuning.trials import Trial

FEW_TRIALS = 10
"""Complete trials a setting; with fewer, what is said of their importance is rough."""
MANY = 0.1
"""A share of failed trials to tell at once."""
NUMBERS_SHOWN, REASONS_SHOWN = 12, 20
"""Of trials that failed for one reason, and of reasons."""
SAME = 0.005
"""Scores of validation and test images that differ by less are about the same."""
EDGE = 0.05
"""The share of a range that counts as its end."""


def headline(outcome: Outcome) -> Headline:
    """What stands at the top of the page."""
    done = completed(outcome.trials)
    measured = f"{_counts(outcome.trials)} {_data(outcome)}"
    if not done:
        return Headline("No trial has come to its end with a score.", (), measured, tuple(_failures(outcome)))
    best, metric = done[0], score_name(outcome.options.metric)
    which = "The only complete trial" if len(done) == 1 else f"The best of {len(done):,} complete trials"
    first = f"{which} has {metric} {best.score:.4f} on validation images."
    rest = [f"Trial {best.number}: {settings_text(best)}."]
    if math.isfinite(best.spread):
        seeds = len(best.scores)
        rest.append(f"That is the mean of {seeds} seeds, whose scores spread by ± {best.spread:.4f}.")
    if outcome.flattery:
        rest.append(f"Expect {metric} {outcome.flattery.test:.4f} of new images: that is the score on the test part.")
    return Headline(first, tuple(rest), measured, tuple(_warnings(outcome, done)))


def _counts(trials: Sequence[Trial]) -> str:
    found = Counter(trial.state for trial in trials)
    order = ("complete", "pruned", "failed", "running", "waiting")
    parts = [f"{found[state]:,} {state}" for state in order if found[state] or state in order[:3]]
    return f"{pluralize(len(trials), 'trial')}: {', '.join(parts)}."


def _data(outcome: Outcome) -> str:
    return f"Data: {', '.join(outcome.data)}." if outcome.data else f"Data: {outcome.given.synthetic:,} drawn images."


def _warnings(outcome: Outcome, done: Sequence[Trial]) -> list[str]:
    warnings = _failures(outcome)
    if not outcome.flattery:
        why = "were not trained again" if outcome.model is None else "have no test part to be scored on"
        warnings.append(
            "The settings were chosen by these validation images, which flatters the score: on new images expect less. "
            f"How much less is not known, since the best settings {why}."
        )
    if len(done) == 1 and len(outcome.trials) > 1:
        warnings.append("There is no other complete trial to compare it with.")
    return warnings


def _failures(outcome: Outcome) -> list[str]:
    failed, total = sum(trial.state == "failed" for trial in outcome.trials), len(outcome.trials)
    told = f"{failed:,} of {pluralize(total, 'trial')} failed; why is said above their table."
    return [told] if failed and failed >= MANY * total else []


def reasons(outcome: Outcome) -> list[tuple[str, str]]:
    """Which trials failed, and why, the most frequent reason first."""
    found: dict[str, list[int]] = {}
    for trial in sorted(outcome.trials, key=lambda trial: trial.number):
        if trial.state == "failed":
            found.setdefault(trial.reason or "no reason is known", []).append(trial.number)
    often = sorted(found.items(), key=lambda item: -len(item[1]))
    told = [(f"{'Trial' if len(who) == 1 else 'Trials'} {preview(who, NUMBERS_SHOWN)}", why) for why, who in often]
    more = len(told) - REASONS_SHOWN
    return [*told[:REASONS_SHOWN], *([("Others", f"{more:,} more reasons")] if more > 0 else [])]


def beliefs(outcome: Outcome) -> list[str]:
    """Whether the best trial is the best by more than chance, and whether better ones may lie beyond."""
    done = completed(outcome.trials)
    if len(done) < 2:
        return []
    same = [trial for trial in done[1:] if trial.score == done[0].score]
    if same:
        others = "1 other trial has" if len(same) == 1 else f"{len(same):,} other trials have"
        return [f"{others} the same score, so nothing tells which of these settings are the best."]
    return [*_close(done), *_edges(outcome, done[0])]


def _close(done: Sequence[Trial]) -> list[str]:
    best, others = done[0], done[1:]
    gap = best.score - others[0].score
    second = f"The next best, trial {others[0].number}, has {others[0].score:.4f}, {gap:.4f} less."
    if not math.isfinite(best.spread):
        once = (
            "Each point was trained once, and chance (the first weights, the order of the images) moves a score, too: "
            "small differences say little. --seeds 3 measures by how much it does."
        )
        return [f"{second} {once}"]
    near = sum(best.score - other.score <= best.spread for other in others)
    if not near:
        return [f"{second} No other trial comes as near as {best.spread:.4f}, by which the seeds alone spread."]
    others_come = "1 other trial comes" if near == 1 else f"{near:,} other trials come"
    so = "by which the seeds alone spread: for all that is known, as good."
    return [f"{second} {others_come} within {best.spread:.4f} of the best, {so}"]


def _edges(outcome: Outcome, best: Trial) -> list[str]:
    """A sentence for each setting whose best value is the last in one direction, so that better ones may lie beyond."""
    fields = TrainConfig.__dataclass_fields__
    found = []
    for name, dimension in outcome.space.dimensions.items():
        value = best.settings.get(name)
        if isinstance(value, (bool, str)) or value is None:
            continue
        numbers = () if isinstance(dimension, Range) else _numbers(dimension.choices)
        if isinstance(dimension, Range):
            share = axis_fraction(value, (dimension.low, dimension.high), log=dimension.log)
            end = "lowest" if share <= EDGE else "highest" if share >= 1 - EDGE else ""
        else:
            ends = {min(numbers): "lowest", max(numbers): "highest"} if len(numbers) > 2 else {}
            end = ends.get(value, "")
        if end and not (end == "lowest" and value <= fields[name].metadata["low"]):
            near = "is near the end" if isinstance(dimension, Range) else "is the end"
            found.append(
                f"The best {setting_name(name)}, {said(value)}, {near} of what was tried ({end}): a better one may lie "
                "beyond."
            )
    return found


def _numbers(choices: Sequence[Any]) -> list[float]:
    return [one for one in choices if isinstance(one, (int, float)) and not isinstance(one, bool)]


def flattery(outcome: Outcome) -> list[str]:
    """How far validation images flatter the best settings, in plain words; nothing where nobody knows."""
    of, metric = outcome.flattery, score_name(outcome.options.metric)
    if of is None:
        return []
    first = (
        f"The model that was trained again with these settings has {metric} {of.val:.4f} on validation images, by "
        f"which the settings and the epoch were chosen, and {of.test:.4f} on test images, which chose nothing"
    )
    less = of.val - of.test
    if abs(less) < SAME:
        return [f"{first}: about the same, so the validation images hardly flatter it.", *_interval(outcome)]
    if less < 0:
        return [f"{first}: here the test images are easier, and nothing looks flattered.", *_interval(outcome)]
    return [
        f"{first}. So the validation images flatter it by {less:.4f}: of new images expect {of.test:.4f}.",
        *_interval(outcome),
    ]


def _interval(outcome: Outcome) -> list[str]:
    """How rough the score of the test part is, where the model's own report says it of the same score."""
    report = outcome.model or {}
    low, high = (report.get("intervals") or {}).get("map_macro") or (None, None)
    if outcome.options.metric != "map" or low is None or high is None:
        return []
    images = pluralize(report["images"], "image") if "images" in report else "images"
    return [f"The test part has {images}; another one so large would probably give between {low:.3f} and {high:.3f}."]


def importance(outcome: Outcome) -> str:
    """How far to believe the importance of the settings."""
    done, settings = len(completed(outcome.trials)), len(outcome.space.dimensions)
    told = (
        "How much of the differences between the scores goes back to each setting, 100 % in all (fANOVA), estimated "
        f"from {pluralize(done, 'complete trial')}."
    )
    if any(trial.state == "pruned" for trial in outcome.trials):
        told += " Trials that were stopped early are not among them: what they share may matter more than is shown."
    if done >= FEW_TRIALS * settings:
        return told
    return f"{told} For {pluralize(settings, 'setting')} these are few: take it as a hint, not as a measurement."
