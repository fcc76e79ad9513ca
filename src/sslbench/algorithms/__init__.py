"""The methods. To add one, write a final class in a file here and a yaml in ``conf/algorithm``.

Arguments that several have:

- distance: between student logits and target probabilities.
- ema: decay of the average of the student's weights, from 0 to below 1, reached after a warm-up.
- weight: of the unlabelled term at the end of the ramp, not negative.
- ramp_up: share of the run over which the weight grows; 0 for none, above 1 is cut off by the end.

All of them raise `ValueError` if an argument is out of its range.
"""
