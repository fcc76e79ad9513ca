"""Lists of Hydra's overrides as hypothesis draws them: right, wrong and broken, with flags."""

from __future__ import annotations

from hypothesis import strategies as st

Texts = st.SearchStrategy[str]

# The folders have values of their own: nothing may be written outside the test's folder.
_PLACES = ["output_root", "run_dir", "hydra.sweep.dir", "hydra.run.dir"]
_KEYS = [
    *("seed", "split_seed", "num_labels", "num_valid", "steps", "eval_every", "log_every", "batch"),
    *("device", "batch.labelled", "batch.unlabelled", "precision", "threads"),
    *("labelled_in_unlabelled", "jobs_per_gpu", "algorithm.eps", "algorithm.distance"),
    *("algorithm.distance.weight", "algorithm", "model", "dataset", "model.hidden", "model.dropout"),
    *("model.width", "optimizer.lr", "schedule", "schedule.every", "dataset.typical"),
    *("dataset.typical.num_labels", "dataset.images", "dataset.images.crop", "loss.typical"),
    *("dataset.facts", "logger", "logger.tags", "logger.project", "logger.entity", "logger.mode"),
    *("retry_failed", "fail_fast", "hydra.job.name", "hydra.verbose", "hydra.mode"),
    *("hydra.sweeper.params", "hydra.sweeper.max_batch_size", "hydra.job.chdir"),
    *("hydra.output_subdir", "hydra", "stepss", "a.b.c", "algorithm.epss", "defaults", "settings"),
    *("_self_", "choices", "overrides", "data_root", "model._target_", "model._partial_"),
    *("model._args_", "schedule._target_", "dataset.path", "batch.labelled.deeper", "steps.x"),
    *("hydra.job_logging", "hydra.searchpath", "hydra.job.env_set.X", "hydra.callbacks"),
    *("hydra.sweep.subdir",),
]
# No launcher that starts processes: what stands in for training is in this one.
_GROUPS = {
    "algorithm": ["vat", "pi_model", "supervised", "mixmatch", "vatt"],
    "dataset": ["digits", "mnist", "npz", "nothing"],
    "model": ["mlp", "cnn", "wrn", "conv_large"],
    "loss": ["mse", "l1", "kl", "js", "ce"],
    "optimizer": ["adam", "sgd"],
    "schedule": ["linear", "constant", "step_down"],
    "logger": ["none", "wandb"],
    "experiment": ["seeds/vat_mnist", "seeds", "absent"],
    "sweep": ["absent"],
    "launcher": ["none", "absent"],
    "hydra/launcher": ["basic", "absent"],
    "hydra/sweeper": ["grid", "basic", "absent"],
    "hydra/job_logging": ["none", "default"],
    "hydra/output": ["default"],
}
_ODD = list("\0\n\r\x1b\x85\u2028\u202e\ud800é🙂\\'\"$%&{}[]()=,:~@")

_numbers = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["0", "1", "-1", "00", "1_000", "9" * 40, "9" * 400, "9" * 5000, str(2**63), "1e400", "inf"]
    ),
    st.sampled_from(["-inf", "nan", "NaN", "1.", ".5", "-.5e-3", "1e", "0x10", "1e999999999", "1__0"]),
)
_words = st.sampled_from(
    [
        "true",
        "FALSE",
        "null",
        "NULL",
        "auto",
        "cpu",
        "vat",
        "a-b",
        "a b",
        "x:y",
        "???",
        "a" * 300,
        "a$b",
        "a%b",
        "@",
    ]
)
_text = st.text(st.one_of(st.sampled_from(_ODD), st.characters(exclude_characters="/")), max_size=8)
_quoted = st.one_of(
    _text.filter(lambda text: not text.endswith("\\") and "'" not in text).map(lambda text: f"'{text}'"),
    st.sampled_from(
        ["''", '""', "'\\'a\\''", '"\\"\\\\"', "'a,b'", "'x=y'", "'${seed}'", "'\\${seed}'", "'[a'", "'1'"]
    ),
)
_interpolations = st.one_of(
    st.sampled_from(
        [
            *(
                "${seed}",
                "${nothing}",
                "${steps}",
                "${.seed}",
                "${..x}",
                "${batch}",
                "${oc.env:HOME}",
                "${a.b}",
            ),
            *(
                "${oc.env:NO_SUCH_VARIABLE}",
                "${oc.env:NO_SUCH_VARIABLE,1}",
                "${now:%Y}",
                "${now:}",
                "${sweep_id:}",
            ),
            *(
                "${times:2,3}",
                "${times:2}",
                "${times:a,b}",
                "${workers:}",
                "${workers:x}",
                "${data_root:}",
                "${model}",
            ),
            *(
                "${absent:1}",
                "${oc.select:nope,5}",
                "${oc.decode:'[1'}",
                "${oc.create:[1]}",
                "${seed}${seed}",
            ),
            *(
                "${hydra:job.name}",
                "${hydra:nothing}",
                "${hydra.job.num}",
                "x${seed}",
                "\\${seed}",
                "${model[0]}",
            ),
            *("${oc.dict.keys:batch}", "${oc.deprecated:seed}", "${data_root:x}", "${oc.dict.values:seed}"),
            *(
                "${python_version:x}",
                "${oc.decode:${oc.env:HOME}}",
                "${oc.create:{a:1}}",
                "${oc.decode:'{1:2,a:3}'}",
            ),
        ]
    ),
    st.sampled_from(_KEYS).map(lambda key: f"${{{key}}}"),
)
_simple = st.one_of(_numbers, _words, _quoted, _interpolations)
_FUNCTIONS = [
    "choice",
    "glob",
    "interval",
    "shuffle",
    "sort",
    "tag",
    "int",
    "float",
    "str",
    "bool",
    "json_str",
]


def _within(inner: Texts) -> Texts:
    """One level around values: lists, mappings, sweeps and functions."""
    several = st.lists(inner, max_size=3)
    keys = st.sampled_from(["a", "b", "1", "null", "true", "1.5", "_target_", "a.b", "'a b'", "${seed}"])
    return st.one_of(
        several.map(lambda parts: f"[{','.join(parts)}]"),
        st.lists(st.tuples(keys, inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
        ),
        st.lists(inner, min_size=2, max_size=3).map(",".join),
        st.builds(
            lambda name, parts: f"{name}({','.join(parts)})",
            st.sampled_from([*_FUNCTIONS, "extend_list", "nothing"]),
            several,
        ),
        st.builds(
            lambda name, key, value: f"{name}({key}={value})",
            st.sampled_from(["sort", "choice", "range"]),
            st.sampled_from(["reverse", "list", "start", "x"]),
            inner,
        ),
        # Ranges are short: one of a million values is a sweep of a million runs, and no mistake.
        st.builds(
            lambda start, more, step: f"range({start},{start + more},{step})",
            st.integers(-5, 5),
            st.integers(-4, 4),
            st.sampled_from(["1", "-1", "2", "0.5", "0", "x", "null"]),
        ),
    )


_values = st.recursive(_simple, _within, max_leaves=5)
_folders = st.sampled_from(
    [
        *(
            "out",
            "a b",
            "",
            "null",
            "out,two",
            "'a\\'b'",
            "é",
            "x" * 300,
            "'a\0b'",
            "'a\nb'",
            "\x1b[1m",
            "${seed}",
        ),
        *(
            "[a]",
            "1",
            "{a:1}",
            "${nothing}",
            "a/../b",
            ".",
            "'\u2028'",
            "\ud800",
            "file/below",
            "true",
            "choice(a,b)",
        ),
        *("'\x1b'", "'\x85'", "'" + "x/" * 3000 + "'"),
    ]
)
_prefix = st.sampled_from(["", "", "", "", "+", "++", "~"])
_package = st.sampled_from(["", "", "", "", "@model", "@a.b", "@_global_", "@:x", "@a:b", "@_here_"])
_counts = st.sampled_from(
    [
        "num_labels",
        "num_valid",
        "steps",
        "eval_every",
        "log_every",
        "batch.labelled",
        "jobs_per_gpu",
        "threads",
    ]
)
_sizes = st.one_of(
    st.integers(1, 2000).map(str), st.sampled_from(["9" * 400, "9" * 5000, str(2**63), "1,2", "20,30"])
)
# What may well be right, so that lists come far.
_plausible = st.one_of(
    st.builds(lambda key, value: f"{key}={value}", _counts, _sizes),
    st.builds(lambda value: f"seed={value}", st.one_of(_sizes, st.sampled_from(["range(3)", "0,1", "null"]))),
    st.builds(lambda value: f"model.hidden=[{value}]", _sizes),
    st.builds(
        lambda key, value: f"{key}={value}",
        st.sampled_from(
            ["algorithm.eps", "optimizer.lr", "model.dropout", "+optimizer.weight_decay", "++model.x"]
        ),
        st.one_of(_numbers, _values),
    ),
    st.builds(lambda value: f"logger.tags=[{value}]", _simple),
    st.sampled_from(
        ["seed=1", "steps=8", "model=mlp", "logger=none", "device=cpu", "loss=js", "algorithm=vat"]
    ),
    st.sampled_from(["dataset=npz", "experiment=seeds/vat_mnist", "algorithm=supervised,vat"]),
)
_well_formed = st.one_of(
    st.builds(lambda p, key, value: f"{p}{key}={value}", _prefix, st.sampled_from(_KEYS), _values),
    st.builds(lambda p, key, value: f"{p}{key}={value}", _prefix, st.sampled_from(_PLACES), _folders),
    st.sampled_from(sorted(_GROUPS)).flatmap(
        lambda group: st.builds(
            lambda p, package, chosen: f"{p}{group}{package}={chosen}",
            _prefix,
            _package,
            st.one_of(
                st.sampled_from(_GROUPS[group]),
                st.lists(st.sampled_from(_GROUPS[group]), min_size=1, max_size=3).map(",".join),
                st.lists(st.sampled_from(_GROUPS[group]), max_size=2).map(
                    lambda names: f"[{','.join(names)}]"
                ),
                st.sampled_from(
                    ["null", "", "glob(*)", "glob(v*)", "../model/mlp", "..", "/vat", "1", "'a b'"]
                ),
            ),
        )
    ),
    st.sampled_from([*_KEYS, *_GROUPS, "model=mlp", "hydra.sweep"]).map(lambda key: f"~{key}"),
)
# Anything: a whole override with something in it, or cut off somewhere.
_broken = st.one_of(
    st.builds(
        lambda text, place, odd: text[: place % (len(text) + 1)] + odd + text[place % (len(text) + 1) :],
        _well_formed.filter(lambda text: not text.lstrip("+~").startswith(tuple(_PLACES))),
        st.integers(0, 40),
        st.one_of(
            _text,
            st.sampled_from(["[", "]", "{", "}", "(", ")", ",", ":", "=", "'", "${", "~", "@", ".", "/x"]),
        ),
    ),
    st.builds(lambda text, place: text[: place % (len(text) + 1)], _well_formed, st.integers(0, 40)),
    st.sampled_from(
        ["", "=", "=1", "seed", "a" * 3000 + "=1", ".a=1", "a..b=1", "+", "~", "é=1", "a[0]=1", "1=1"]
    ),
    _text,
).filter(lambda text: not text.startswith("-"))
_flags = st.sampled_from(
    [
        *([["-m"]] * 20),
        *(["--cfg", "job"], ["--cfg", "hydra"], ["--cfg", "all"], ["--cfg", "x"], ["--cfg"], ["--info"]),
        *(
            ["--info", "defaults"],
            ["--info", "config"],
            ["--resolve"],
            ["--cfg", "job", "--resolve"],
            ["--run"],
        ),
        *(["--multirun", "--run"], ["--package", "model"], ["--cfg", "job", "--package", "nope"], ["--help"]),
        *(
            ["--hydra-help"],
            ["--unknown"],
            ["-x"],
            ["--config-name", "absent"],
            ["--config-name", ""],
            ["--version"],
        ),
        *(
            ["--config-dir", "absent"],
            ["--config-path", "absent"],
            ["--config-dir"],
            ["-sc", "query=bash"],
            ["--"],
        ),
        *(["-sc", "nothing"], ["--experimental-rerun", "absent"], ["--config-dir", "."], ["--info", "all"]),
    ]
)
lists = st.builds(
    lambda overrides, broken, again, flags: [*overrides, *broken, *(overrides[:1] if again else []), *flags],
    st.one_of(
        st.lists(_plausible, min_size=1, max_size=4),
        st.lists(st.one_of(_plausible, _well_formed), min_size=1, max_size=3),
        st.lists(_well_formed, min_size=1, max_size=3),
    ),
    st.one_of(*[st.just([])] * 6, _broken.map(lambda text: [text])),
    st.sampled_from([False, False, False, False, True]),
    st.one_of(st.just([]), st.just([]), _flags),
)
