//! What somebody probably meant: the nearest known word, and the names other tools use.

/// Names of the same thing elsewhere, with ours.
///
/// Left are the names of GPT-2 and generic configurations of Hugging Face, nanoGPT, x-transformers,
/// zoology, PyTorch and the two papers.
const ALIASES: &[(&str, &str)] = &[
    ("n_embd", "d_model"),
    ("hidden_size", "d_model"),
    ("hidden_dim", "d_model"),
    ("hidden", "d_model"),
    ("width", "d_model"),
    ("dim", "d_model"),
    ("d", "d_model"),
    ("n_layer", "n_layers"),
    ("num_hidden_layers", "n_layers"),
    ("num_layers", "n_layers"),
    ("depth", "n_layers"),
    ("l", "n_layers"),
    ("n_head", "n_heads"),
    ("num_attention_heads", "n_heads"),
    ("num_heads", "n_heads"),
    ("heads", "n_heads"),
    ("h", "n_heads"),
    ("n_inner", "d_mlp"),
    ("intermediate_size", "d_mlp"),
    ("ff_mult", "d_mlp"),
    ("d_ff", "d_mlp"),
    ("n_positions", "n_ctx"),
    ("max_position_embeddings", "n_ctx"),
    ("block_size", "n_ctx"),
    ("max_seq_len", "n_ctx"),
    ("context_length", "n_ctx"),
    ("vocab_size", "d_vocab"),
    ("num_tokens", "d_vocab"),
    ("n_vocab", "d_vocab"),
    ("layer_norm_eps", "layer_norm_epsilon"),
    ("activation_function", "mlp"),
    ("activation", "mlp"),
    ("tie_word_embeddings", "tie_unembed"),
    ("tied", "tie_unembed"),
    ("position_embedding", "positions"),
    ("pos_emb", "positions"),
    ("architecture", "name"),
    ("arch", "name"),
    ("type", "name"),
    ("model_type", "name"),
    ("optim", "optimizer"),
    ("optimiser", "optimizer"),
    ("learning_rate", "lr"),
    ("max_lr", "lr"),
    ("wd", "weight_decay"),
    ("betas", "beta1"),
    ("beta_1", "beta1"),
    ("beta_2", "beta2"),
    ("adam_beta1", "beta1"),
    ("adam_beta2", "beta2"),
    ("eps", "epsilon"),
    ("adam_epsilon", "epsilon"),
    ("grad_clip", "clip_norm"),
    ("max_grad_norm", "clip_norm"),
    ("gradient_clip_val", "clip_norm"),
    ("steps", "n_steps"),
    ("max_steps", "n_steps"),
    ("max_iters", "n_steps"),
    ("num_steps", "n_steps"),
    ("iterations", "n_steps"),
    ("warmup", "warmup_steps"),
    ("warmup_iters", "warmup_steps"),
    ("num_warmup_steps", "warmup_steps"),
    ("batch", "batch_size"),
    ("per_device_train_batch_size", "batch_size"),
    ("lr_scheduler", "decay"),
    ("scheduler", "decay"),
    ("lr_decay_iters", "decay_steps"),
    ("num_training_steps", "decay_steps"),
    ("lr_scheduler_type", "decay"),
    ("eval_every", "curve_every"),
    ("eval_interval", "curve_every"),
    ("eval_steps", "curve_every"),
    ("t", "seq_len"),
    ("length", "seq_len"),
    ("seq_length", "seq_len"),
    ("sequence_length", "seq_len"),
    ("p_i", "p_ignore"),
    ("p_w", "p_write"),
    ("p_r", "p_read"),
    ("symbols", "n_symbols"),
    ("n_states", "n_symbols"),
    ("m", "n_symbols"),
    ("mixture", "parts"),
    ("components", "parts"),
    ("samples", "n_examples"),
    ("n_samples", "n_examples"),
    ("num_examples", "n_examples"),
    ("size", "n_examples"),
    ("alpha", "confidence"),
    ("n_bootstrap", "n_resamples"),
    ("order_seed", "data_seed"),
    ("random_seed", "seed"),
    ("init_seed", "model_seed"),
    ("test_seed", "eval_seed"),
    ("arms", "arm"),
    ("claims", "claim"),
    ("grid", "sweep"),
    ("training", "train"),
    ("evaluation", "eval"),
    ("dataset", "task"),
    ("data", "task"),
];

/// Our name for what other tools call `word`.
pub(super) fn our_name(word: &str) -> Option<&'static str> {
    let word = plain(word);
    ALIASES.iter().find(|(theirs, _)| *theirs == word).map(|&(_, ours)| ours)
}

/// The candidate nearest to `word`, if one is near enough to have been meant.
///
/// Near means that at most a third of the letters differ; letter case and hyphens do not count.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = plain(word);
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn plain(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

/// `a`, `b`, `c`: a list for a person.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_key_and_a_stranger_finds_none() {
        let keys = ["n_layers", "n_heads", "d_model"];
        assert_eq!(nearest("n_layres", keys), Some("n_layers"));
        assert_eq!(nearest("N-Heads", keys), Some("n_heads"));
        assert_eq!(nearest("model", keys), None);
        assert_eq!(nearest("dropout", keys), None);
    }

    #[test]
    fn names_of_other_tools_lead_to_ours() {
        assert_eq!(our_name("n_embd"), Some("d_model"));
        assert_eq!(our_name("L"), Some("n_layers"));
        assert_eq!(our_name("d_model"), None);
    }

    #[test]
    fn no_alias_is_one_of_our_own_names() {
        for (theirs, _) in ALIASES {
            assert!(ALIASES.iter().all(|(_, ours)| ours != theirs), "{theirs} is on both sides");
        }
    }
}
