"""Lists of Hydra's overrides as hypothesis draws them: right, wrong and broken, with flags."""

from __future__ import annotations

from hypothesis import strategies as st

Texts = st.SearchStrategy[str]


def _one_of(words: str, *others: str) -> Texts:
    """One of the words between the blanks, or of the others, which may have blanks or be empty."""
    return st.sampled_from([*words.split(), *others])


def _joined(begin: str, parts: Texts, end: str, least: int = 0, most: int = 3) -> Texts:
    return st.lists(parts, min_size=least, max_size=most).map(lambda drawn: begin + ",".join(drawn) + end)


def _cut(text: str, place: int, odd: str = "", rest: bool = True) -> str:
    """`text` with `odd` at a place in it, and what comes after only if `rest`."""
    place %= len(text) + 1
    return text[:place] + odd + (text[place:] if rest else "")


# The folders have values of their own: nothing may be written outside the test's folder.
_PLACES = ("output_root", "run_dir", "hydra.sweep.dir", "hydra.run.dir")
_KEYS = """
" seed split_seed num_labels num_valid steps eval_every log_every batch device batch.labelled
batch.unlabelled precision threads labelled_in_unlabelled jobs_per_gpu algorithm.eps algorithm.distance
algorithm.distance.weight algorithm model dataset model.hidden model.dropout model.width optimizer.lr
schedule schedule.every dataset.typical dataset.typical.num_labels dataset.images dataset.images.crop
loss.typical dataset.facts logger logger.tags logger.project logger.entity logger.mode retry_failed
fail_fast hydra.job.name hydra.verbose hydra.mode hydra.sweeper.params hydra.sweeper.max_batch_size
hydra.job.chdir hydra.output_subdir hydra stepss a.b.c algorithm.epss defaults settings _self_ choices
overrides data_root model._target_ model._partial_ model._args_ schedule._target_ dataset.path
batch.labelled.deeper steps.x hydra.job_logging hydra.searchpath hydra.job.env_set.X hydra.callbacks
hydra.sweep.subdir
"""
# No launcher that starts processes: what stands in for training is in this one.
_GROUPS = {
    "algorithm": "vat pi_model supervised mixmatch vatt",
    "dataset": "digits mnist npz nothing",
    "model": "mlp cnn wrn conv_large",
    "loss": "mse l1 kl js ce",
    "optimizer": "adam sgd",
    "schedule": "linear constant step_down",
    "logger": "none wandb",
    "experiment": "seeds/vat_mnist seeds absent",
    "sweep": "absent",
    "launcher": "none absent",
    "hydra/launcher": "basic absent",
    "hydra/sweeper": "grid basic absent",
    "hydra/job_logging": "none default",
    "hydra/output": "default",
}
_ODD = list("\0\n\r\x1b\x85\u2028\u202e\ud800é🙂\\'\"$%&{}[]()=,:~@")

_keys = _one_of(_KEYS)
_numbers = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    _one_of("0 1 -1 00 1_000 1e400 inf", "9" * 40, "9" * 400, "9" * 5000, str(2**63)),
    _one_of("-inf nan NaN 1. .5 -.5e-3 1e 0x10 1e999999999 1__0"),
)
_words = _one_of("true FALSE null NULL auto cpu vat a-b x:y ??? a$b a%b @", "a b", "a" * 300)
_text = st.text(st.one_of(st.sampled_from(_ODD), st.characters(exclude_characters="/")), max_size=8)
_quoted = st.one_of(
    _text.filter(lambda text: not text.endswith("\\") and "'" not in text).map(lambda text: f"'{text}'"),
    _one_of(r"""'' "" '\'a\'' "\"\\" 'a,b' 'x=y' '${seed}' '\${seed}' '[a' '1'"""),
)
_interpolations = st.one_of(
    _one_of(
        r"""
        ${seed} ${nothing} ${steps} ${.seed} ${..x} ${batch} ${oc.env:HOME} ${a.b} ${oc.env:NO_SUCH_VARIABLE}
        ${oc.env:NO_SUCH_VARIABLE,1} ${now:%Y} ${now:} ${sweep_id:} ${times:2,3} ${times:2} ${times:a,b}
        ${workers:} ${workers:x} ${data_root:} ${model} ${absent:1} ${oc.select:nope,5} ${oc.decode:'[1'}
        ${oc.create:[1]} ${seed}${seed} ${hydra:job.name} ${hydra:nothing} ${hydra.job.num} x${seed} \${seed}
        ${model[0]} ${oc.dict.keys:batch} ${oc.deprecated:seed} ${data_root:x} ${oc.dict.values:seed}
        ${python_version:x} ${oc.decode:${oc.env:HOME}} ${oc.create:{a:1}} ${oc.decode:'{1:2,a:3}'}
        """
    ),
    _keys.map(lambda key: f"${{{key}}}"),
)
_simple = st.one_of(_numbers, _words, _quoted, _interpolations)
_functions = _one_of("choice glob interval shuffle sort tag int float str bool json_str extend_list nothing")


def _pair(begin: str, separator: str, *parts: Texts) -> Texts:
    return st.tuples(*parts).map(lambda drawn: begin + separator.join(drawn))


def _within(inner: Texts) -> Texts:
    """One level around values: lists, mappings, sweeps and functions."""
    keys = _one_of("a b 1 null true 1.5 _target_ a.b ${seed}", "'a b'")
    named = _pair("", "=", _one_of("reverse list start x"), inner)
    # Ranges are short: one of a million values is a sweep of a million runs, and no mistake.
    ranges = st.builds(
        lambda start, more, step: f"range({start},{start + more},{step})",
        st.integers(-5, 5),
        st.integers(-4, 4),
        _one_of("1 -1 2 0.5 0 x null"),
    )
    return st.one_of(
        _joined("[", inner, "]"),
        _joined("{", _pair("", ":", keys, inner), "}"),
        _joined("", inner, "", least=2),
        _pair("", "", _functions, _joined("(", inner, ")")),
        _pair("", "", _one_of("sort choice range"), named.map(lambda pair: f"({pair})")),
        ranges,
    )


_values = st.recursive(_simple, _within, max_leaves=5)
_folders = _one_of(
    r"out null out,two 'a\'b' é ${seed} [a] 1 {a:1} ${nothing} a/../b . file/below true choice(a,b)",
    *("a b", "", "x" * 300, "'a\0b'", "'a\nb'", "\x1b[1m", "'\u2028'", "\ud800", "'\x1b'", "'\x85'"),
    "'" + "x/" * 3000 + "'",
)
_prefix = st.sampled_from([""] * 4 + ["+", "++", "~"])
_package = st.sampled_from([""] * 4 + ["@model", "@a.b", "@_global_", "@:x", "@a:b", "@_here_"])
_counts = _one_of("num_labels num_valid steps eval_every log_every batch.labelled jobs_per_gpu threads")
_sizes = st.one_of(st.integers(1, 2000).map(str), _one_of("1,2 20,30", "9" * 400, "9" * 5000, str(2**63)))
_tuned = _one_of("algorithm.eps optimizer.lr model.dropout +optimizer.weight_decay ++model.x")
# What may well be right, so that lists come far.
_plausible = st.one_of(
    _pair("", "=", _counts, _sizes),
    _pair("seed=", "", st.one_of(_sizes, _one_of("range(3) 0,1 null"))),
    _joined("model.hidden=[", _sizes, "]", least=1, most=1),
    _pair("", "=", _tuned, st.one_of(_numbers, _values)),
    _joined("logger.tags=[", _simple, "]", least=1, most=1),
    _one_of("seed=1 steps=8 model=mlp logger=none device=cpu loss=js algorithm=vat"),
    _one_of("dataset=npz experiment=seeds/vat_mnist algorithm=supervised,vat"),
)


def _choice(group: str) -> Texts:
    """An override of a group, with one of its choices, with several, or with something else."""
    choices = _one_of(_GROUPS[group])
    others = _one_of("null glob(*) glob(v*) ../model/mlp .. /vat 1", "", "'a b'")
    chosen = st.one_of(choices, _joined("", choices, "", least=1), _joined("[", choices, "]", most=2), others)
    return _pair("", "", _prefix, st.just(group), _package, chosen.map(lambda value: f"={value}"))


_well_formed = st.one_of(
    _pair("", "", _prefix, _pair("", "=", _keys, _values)),
    _pair("", "", _prefix, _pair("", "=", st.sampled_from(_PLACES), _folders)),
    st.sampled_from(sorted(_GROUPS)).flatmap(_choice),
    _one_of(_KEYS, *_GROUPS, "model=mlp", "hydra.sweep").map(lambda key: f"~{key}"),
)
# Anything: a whole override with something in it, or cut off somewhere.
_broken = st.one_of(
    st.builds(
        _cut,
        _well_formed.filter(lambda text: not text.lstrip("+~").startswith(_PLACES)),
        st.integers(0, 40),
        st.one_of(_text, _one_of("[ ] { } ( ) , : = ' ${ ~ @ . /x")),
    ),
    st.builds(_cut, _well_formed, st.integers(0, 40), rest=st.just(False)),
    _one_of("= =1 seed .a=1 a..b=1 + ~ é=1 a[0]=1 1=1", "", "a" * 3000 + "=1"),
    _text,
).filter(lambda text: not text.startswith("-"))


_FLAGS = """
--cfg job; --cfg hydra; --cfg all; --cfg x; --cfg; --cfg job --resolve; --cfg job --package nope; --info;
--info defaults; --info config; --info all; --resolve; --run; --multirun --run; --package model; --help;
--hydra-help; --unknown; -x; --version; --; --config-name absent; --config-dir absent; --config-dir .;
--config-dir; --config-path absent; -sc query=bash; -sc nothing; --experimental-rerun absent
"""
_flags = st.sampled_from(
    [*[["-m"]] * 20, ["--config-name", ""], *(typed.split() for typed in _FLAGS.split(";"))]
)
lists = st.builds(
    lambda overrides, broken, again, flags: [*overrides, *broken, *(overrides[:1] if again else []), *flags],
    st.one_of(
        st.lists(_plausible, min_size=1, max_size=4),
        st.lists(st.one_of(_plausible, _well_formed), min_size=1, max_size=3),
        st.lists(_well_formed, min_size=1, max_size=3),
    ),
    st.one_of(*[st.just([])] * 6, _broken.map(lambda text: [text])),
    st.sampled_from([False] * 4 + [True]),
    st.one_of(st.just([]), st.just([]), _flags),
)
