"""Which training images are labelled, which validate, and which have lost their labels."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sslbench.errors import UserError
from sslbench.system.atomic_files import write_atomically

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Positions in the training set, each int64, sorted.

    Attributes:
        labelled: the same number from each class.
        valid: drawn without regard to class; picks the checkpoint, is never trained on.
        unlabelled: the rest, with the labelled ones among them where the run says so.
    """

    labelled: Indices
    valid: Indices
    unlabelled: Indices

    @property
    def digest(self) -> str:
        """SHA-256 over the three index arrays as little-endian int64, in hexadecimal."""
        sha = hashlib.sha256()
        for part in vars(self).values():
            sha.update(len(part).to_bytes(8, "little"))
            sha.update(part.astype("<i8").tobytes())
        return sha.hexdigest()

    def save(self, path: Path) -> None:
        """Write the arrays and their hash as ``.npz``."""

        def write(part: Path) -> None:
            with part.open("wb") as out:
                np.savez(out, **vars(self), hash=np.array(self.digest))

        write_atomically(path, write)


def check_counts(num_labels: int, num_valid: int, num_classes: int, num_train: int | None) -> None:
    """Raise `UserError` if no data set of `num_classes` classes and `num_train` images (None: any) fits."""
    if num_labels < num_classes:
        raise UserError(
            f"num_labels={num_labels} is smaller than the {num_classes} classes: "
            f"use a multiple of {num_classes}, at least {num_classes}"
        )
    if num_labels % num_classes:
        below = num_labels - num_labels % num_classes
        raise UserError(
            f"num_labels={num_labels} is not divisible by the {num_classes} classes: "
            f"use {below} or {below + num_classes}"
        )
    if num_train is not None and num_labels + num_valid > num_train:
        raise UserError(
            f"num_labels={num_labels} and num_valid={num_valid} together exceed the {num_train} training "
            f"images: lower one of them"
        )


def make_split(
    targets: Indices,
    num_classes: int,
    num_labels: int,
    num_valid: int,
    split_seed: int,
    labelled_in_unlabelled: bool = True,
) -> Split:
    """Split a training set; a pure function of its arguments, equal on every machine.

    One permutation of the training set, drawn from `split_seed`, decides all: its last `num_valid`
    positions validate, and of the others the first of each class are labelled. So the validation images
    do not depend on `num_labels`, and 50 labels are a subset of 100 labels of the same `split_seed`.
    The generator is numpy's legacy Mersenne Twister, the one whose stream numpy promises never to change.

    Args:
        targets: class indices of the training set, int64 ``[N]``.
        num_classes: size of the label set.
        num_labels: labelled images in all, a multiple of `num_classes`.
        num_valid: validation images, at least 1.
        split_seed: 0 to 2**32 - 1.
        labelled_in_unlabelled: whether the labelled images are used as unlabelled ones too.

    Raises:
        UserError: the counts do not fit the classes or the data; the message names the key.
    """
    check_counts(num_labels, num_valid, num_classes, len(targets))
    order = np.random.RandomState(split_seed).permutation(len(targets)).astype(np.int64)
    valid, rest = order[len(order) - num_valid :], order[: len(order) - num_valid]
    per_class = num_labels // num_classes
    members = [rest[targets[rest] == k] for k in range(num_classes)]
    short = min(range(num_classes), key=lambda k: len(members[k]))
    if len(members[short]) < per_class:
        raise UserError(
            f"num_labels={num_labels} asks for {per_class} images a class, but class {short} has only "
            f"{len(members[short])} outside the validation images: lower num_labels or num_valid"
        )
    labelled = np.concatenate([m[:per_class] for m in members])
    unlabelled = rest if labelled_in_unlabelled else np.setdiff1d(rest, labelled)
    if not len(unlabelled):
        raise UserError(
            f"num_labels={num_labels} and num_valid={num_valid} leave no unlabelled image: lower one of them "
            f"or set labelled_in_unlabelled=true"
        )
    return Split(np.sort(labelled), np.sort(valid), np.sort(unlabelled))
