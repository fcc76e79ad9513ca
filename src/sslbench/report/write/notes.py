"""Sentences that say how far the numbers can be trusted, the same in every form of the report."""

from sslbench.report.compare.comparison import Comparison

ON_SELECTION = (
    "Validation images alone selected the best step of each run; the test images were only evaluated."
)
ON_RANKS = (
    "rank: by mean test error among the rows with the same data set, labels, validation images and steps."
)
ON_DIFFERENCES = (
    "Test error of the algorithm minus that of its baseline with the same data, labels, validation images "
    "and steps, in percentage points: negative is better. The baseline is supervised training, with a strong "
    "view if the algorithm has one and such a run exists; --baseline names another. Runs are paired by "
    "seed and split, over the pairs that both sides have. Where several splits have several seeds each, the "
    "differences are averaged within each split first, and the pairs are the splits. The bootstrap interval "
    "is the 95 % percentile interval over 9,999 resamples of the pairs; with few pairs it is too short: of "
    "three pairs it covers the true difference in three cases of four (docs/design/comparison.md). Student's "
    "t interval, which supposes normal differences, is the more cautious. Neither is corrected for the "
    "number of rows, and there is none where all differences are equal. Without a pair the means are "
    "compared, with Welch's standard error."
)
ONLY_BASELINES = "There is no other algorithm than the baseline."
WITHOUT_BASELINE = "No baseline with the same data set, labels, steps and splits"
ON_BOOTSTRAP = (
    "With few pairs the bootstrap interval is too short: of three it covers the true difference in three "
    "cases of four. Student's t interval is the more cautious."
)
_ON_VARIANTS = (
    "selected: of several variants of an algorithm, the one with the best mean validation accuracy. Quote "
    "this one: quoting the one with the lowest test error would be tuning on the test images."
)
_ON_DRAWS = (
    "one draw of the labels, which all seeds share. Neither the standard deviation nor the intervals contain "
    "what another draw would change."
)
_ON_STARS = "A rank with *: the row lacks seeds or draws of the labels that most rows of its task have."


def on_rows(comparison: Comparison) -> list[str]:
    """What a reader must know about certain rows."""
    several = [group for group in comparison.groups if len(group.runs) > 1]
    fixed = [group.number for group in several if len({run.split_hash for run in group.runs}) == 1]
    mixed = [group.number for group in several if len({run.git_commit for run in group.runs}) > 1]
    sentences = [_ON_VARIANTS] if comparison.selected else []
    sentences += [_ON_STARS] if comparison.incomplete_seeds else []
    if fixed:
        rows = "All rows with several seeds" if len(fixed) == len(several) else _rows(fixed)
        sentences.append(f"{rows}: {_ON_DRAWS}")
    if mixed:
        sentences.append(f"{_rows(mixed)}: runs of several versions of the program.")
    return sentences


def _rows(numbers: list[int]) -> str:
    """Such as ``Rows 1, 3 to 5``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    names = (str(span[0]) if len(span) == 1 else f"{span[0]} to {span[1]}" for span in spans)
    return f"{'Row' if len(numbers) == 1 else 'Rows'} {', '.join(names)}"
