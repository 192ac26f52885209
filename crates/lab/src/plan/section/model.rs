//! `[model]`: a preset, and what is changed of it.

use mnemoscope_model::{
    AssociativeInit, AssociativeSpec, FeedForward, Gelu, Init, LstmSpec, Memory, Mlp, ModelSpec,
    Norm, NormLength, Places, PosScale, Positions, Relative, ScoreScale, TransformerSpec,
};
use mnemoscope_task::Task;

use crate::plan::complaint::Fault;
use crate::plan::reader::{Allowed, Section};
use crate::plan::types::EvalPlan;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Transformer,
    Lstm,
    Associative,
}

#[derive(Clone, Copy)]
enum Preset {
    FflmBase,
    Gpt2Base,
    BirthFull,
    Lstm,
    Birth,
}

impl Preset {
    const ALL: &[(&str, Self)] = &[
        ("fflm-base", Self::FflmBase),
        ("gpt2-base", Self::Gpt2Base),
        ("birth-full", Self::BirthFull),
        ("lstm", Self::Lstm),
        ("birth", Self::Birth),
    ];

    fn name(self) -> Name {
        match self {
            Self::FflmBase | Self::Gpt2Base | Self::BirthFull => Name::Transformer,
            Self::Lstm => Name::Lstm,
            Self::Birth => Name::Associative,
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>, task: &Task, eval: &EvalPlan) -> ModelSpec {
    const NAMES: &[(&str, Name)] = &[
        ("transformer", Name::Transformer),
        ("lstm", Name::Lstm),
        ("associative", Name::Associative),
    ];
    let preset = section.choice_if_given("preset", Preset::ALL);
    let name = section.choice_if_given("name", NAMES);
    if preset.is_some_and(|preset| name.is_some_and(|name| preset.name() != name)) {
        let message = "name and preset are two different models; give one of the two";
        section.complain(Fault::Together, "name", message.to_owned());
    }
    let preset = preset.unwrap_or(match name {
        Some(Name::Lstm) => Preset::Lstm,
        Some(Name::Associative) => Preset::Birth,
        Some(Name::Transformer) | None => Preset::FflmBase,
    });
    let d_vocab = section.size("d_vocab", task.d_vocab() as usize);
    let tasks = std::iter::once(task).chain(eval.sets.values().map(|set| &set.task));
    let longest = tasks.map(Task::n_ctx).max().unwrap_or(task.n_ctx());
    let model = match preset {
        Preset::Lstm => {
            let LstmSpec { n_layers, d_model, .. } = LstmSpec::paper();
            ModelSpec::Lstm(LstmSpec {
                n_layers: section.size("n_layers", n_layers),
                d_model: section.size("d_model", d_model),
                d_vocab,
            })
        }
        Preset::Birth => {
            let base = AssociativeSpec { d_vocab, n_ctx: longest, ..AssociativeSpec::birth() };
            ModelSpec::Associative(read_associative(&mut section, base))
        }
        Preset::FflmBase | Preset::Gpt2Base | Preset::BirthFull => {
            let base = match preset {
                Preset::Gpt2Base => TransformerSpec::gpt2_base(),
                Preset::BirthFull => TransformerSpec::birth_full(),
                _ => TransformerSpec::fflm_base(),
            };
            let base = TransformerSpec { d_vocab, n_ctx: longest, ..base };
            ModelSpec::Transformer(read_transformer(&mut section, base))
        }
    };
    section.finish();
    model
}

fn read_transformer(section: &mut Section<'_, '_>, base: TransformerSpec) -> TransformerSpec {
    let d_model = section.size("d_model", base.d_model);
    let mlp = section.choice(
        "mlp",
        &[
            ("gelu", Mlp::Gelu),
            ("relu", Mlp::Relu),
            ("geglu", Mlp::Geglu),
            ("swiglu", Mlp::Swiglu),
            ("linear", Mlp::Linear),
            ("none", Mlp::None),
        ],
        base.mlp,
    );
    let norm = section.choice(
        "norm",
        &[("pre", Norm::Pre), ("post", Norm::Post), ("none", Norm::None)],
        base.norm,
    );
    // What a preset says of an MLP that is no longer there, or of another kind, is not meant.
    let usual_gelu = if mlp.has_gelu() { base.gelu } else { Gelu::Erf };
    let usual_d_mlp = if mlp.has_width() { d_model.saturating_mul(4) } else { 0 };
    let parallel = base.parallel_mlp && mlp != Mlp::None && norm != Norm::Post;
    let n_heads = section.size("n_heads", base.n_heads);
    let relative = read_relative(section, d_model.checked_div(n_heads).unwrap_or(d_model));
    // As x-transformers has it: rotary and T5's positions stand alone, ALiBi's beside absolute ones.
    let usual_positions = match relative {
        Relative::Rotary { .. } | Relative::T5 { .. } => Positions::None,
        Relative::None | Relative::Alibi => base.positions,
    };
    let (positions, pos_scale) = read_positions(section, usual_positions, base.pos_scale);
    let n_layers = section.size("n_layers", base.n_layers);
    let base = read_identities(section, TransformerSpec { n_layers, ..base });
    TransformerSpec {
        d_model,
        n_heads,
        // All presets have an MLP four times as wide as the residual stream.
        d_mlp: section.size("d_mlp", usual_d_mlp),
        n_ctx: section.size("n_ctx", base.n_ctx),
        positions,
        pos_scale,
        tie_unembed: section.flag("tie_unembed", base.tie_unembed),
        attn_bias: section.flag("attn_bias", base.attn_bias),
        unembed_bias: section.flag("unembed_bias", base.unembed_bias),
        gelu: section.choice("gelu", &[("erf", Gelu::Erf), ("tanh", Gelu::Tanh)], usual_gelu),
        layer_norm_epsilon: section.real(
            "layer_norm_epsilon",
            base.layer_norm_epsilon,
            Allowed::POSITIVE,
        ),
        init: section.choice(
            "init",
            &[
                ("x-transformers", Init::XTransformers),
                ("gpt2", Init::Gpt2),
                ("pytorch", Init::PyTorch),
            ],
            base.init,
        ),
        norm,
        mlp,
        mlp_bias: section.flag("mlp_bias", base.mlp_bias || mlp == Mlp::None),
        mlp_from_layer: section.whole32("mlp_from_layer", 0, 0) as usize,
        parallel_mlp: section.flag("parallel_mlp", parallel),
        relative,
        temperature: section.real("temperature", base.temperature, Allowed::POSITIVE),
        ..base
    }
}

/// Values of their own, and the blocks that leave a map out.
fn read_identities(section: &mut Section<'_, '_>, base: TransformerSpec) -> TransformerSpec {
    TransformerSpec {
        own_v: section.flag("own_v", false),
        identity_v: section.layers_out("identity_v", base.n_layers),
        identity_out: section.layers_out("identity_out", base.n_layers),
        ..base
    }
}

/// Absolute positions and their factor.
fn read_positions(
    section: &mut Section<'_, '_>,
    usual: Positions,
    usual_scale: PosScale,
) -> (Positions, PosScale) {
    let positions = section.choice(
        "positions",
        &[
            ("learned", Positions::Learned),
            ("sinusoidal", Positions::Sinusoidal),
            ("linear", Positions::Linear),
            ("none", Positions::None),
        ],
        usual,
    );
    // A line is scaled by n_ctx already.
    let usual_scale = if positions == Positions::Linear { PosScale::Unit } else { usual_scale };
    let pos_scale = section.choice(
        "pos_scale",
        &[
            ("unit", PosScale::Unit),
            ("rsqrt_d_model", PosScale::RsqrtDModel),
            ("learned", PosScale::Learned),
        ],
        usual_scale,
    );
    (positions, pos_scale)
}

/// Relative positions; each kind has fields of its own beside `relative`.
fn read_relative(section: &mut Section<'_, '_>, d_head: usize) -> Relative {
    let kinds = [
        ("none", Relative::None),
        ("rotary", Relative::rotary(d_head)),
        ("t5", Relative::T5),
        ("alibi", Relative::Alibi),
    ];
    match section.choice("relative", &kinds, Relative::None) {
        Relative::Rotary { n_rotated } => {
            Relative::Rotary { n_rotated: section.size("n_rotated", n_rotated) }
        }
        Relative::T5 { n_buckets, max_distance } => Relative::T5 {
            n_buckets: section.size("n_buckets", n_buckets),
            max_distance: section.size("max_distance", max_distance),
        },
        fixed @ (Relative::None | Relative::Alibi) => fixed,
    }
}

fn read_associative(section: &mut Section<'_, '_>, base: AssociativeSpec) -> AssociativeSpec {
    const FEED_FORWARDS: &[(&str, FeedForward)] = &[
        ("none", FeedForward::None),
        ("linear", FeedForward::Linear),
        ("relu", FeedForward::Relu),
    ];
    let d_model = section.size("d_model", base.d_model);
    let factored = section.choices("factored", &Memory::ALL);
    let d_inner = section.size("d_inner", if factored.is_empty() { 0 } else { d_model });
    AssociativeSpec {
        d_model,
        d_mlp: section.size("d_mlp", d_model.saturating_mul(4)),
        n_ctx: section.size("n_ctx", base.n_ctx),
        d_vocab: base.d_vocab,
        first_mlp: section.choice("first_mlp", FEED_FORWARDS, base.first_mlp),
        mlp: section.choice("mlp", FEED_FORWARDS, base.mlp),
        places: section.choice(
            "places",
            &[
                ("table", Places::Table),
                ("sinusoidal", Places::Sinusoidal),
                ("rotary", Places::Rotary),
            ],
            base.places,
        ),
        score_scale: section.choice(
            "score_scale",
            &[("rsqrt_d_model", ScoreScale::RsqrtDModel), ("unit", ScoreScale::Unit)],
            base.score_scale,
        ),
        init: section.choice(
            "init",
            &[
                ("published", AssociativeInit::Published),
                ("small-embed", AssociativeInit::SmallEmbed),
                ("theory", AssociativeInit::Theory),
            ],
            base.init,
        ),
        factored,
        d_inner,
        normalised: section.choices("normalised", &Memory::ALL),
        norm_length: section.choice(
            "norm_length",
            &[("unit", NormLength::Unit), ("sqrt_d_model", NormLength::SqrtDModel)],
            NormLength::Unit,
        ),
        mlp_bias: section.flag("mlp_bias", false),
    }
}
