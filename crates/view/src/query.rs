//! Questions to a store as people ask them: fields by the names of a spec, conditions, the rates of every set.
//!
//! `runs` and the dashboard ask through here, so that a name means the same in both.

use mnemoscope_store::{Error, Filter, Store};

/// Conditions as people write them.
///
/// # Errors
///
/// [`mnemoscope_store::ErrorKind::Invalid`], with what is wrong.
pub fn conditions(texts: &[String]) -> Result<Vec<Filter>, Error> {
    texts.iter().map(|text| Filter::read(text, &full_path)).collect()
}

/// A field by the name that the store knows: people name keys of the spec, labels, and sets that were measured.
///
/// # Example
///
/// ```
/// use mnemoscope_view::query::full_path;
///
/// assert_eq!(full_path("model.n_layers"), "plan.model.n_layers");
/// assert_eq!(full_path("val.error_rate"), "result.eval.val.error_rate");
/// ```
#[must_use]
pub fn full_path(name: &str) -> String {
    let (first, more) = match name.split_once('.') {
        Some((first, _)) => (first, true),
        None => (name, false),
    };
    match first {
        "seed" if !more => "plan.seeds.data".to_owned(),
        "task" | "model" | "train" | "probe" | "seeds" => format!("plan.{name}"),
        "eval" => format!("result.{name}"),
        "arm" | "study" | "version" | "machine" => format!("meta.{name}"),
        "id" | "status" | "created_secs" | "problem" | "plan" | "meta" | "result" => {
            name.to_owned()
        }
        _ if more => format!("result.eval.{name}"),
        _ => name.to_owned(),
    }
}

/// The first of the fields that no run has, where there are runs: a slip of the pen is no empty answer.
///
/// # Errors
///
/// Those of [`Store::fields`].
pub fn unknown_field(store: &Store, asked: &[String]) -> Result<Option<String>, Error> {
    if asked.is_empty() {
        return Ok(None);
    }
    let known = store.fields()?;
    if known.is_empty() {
        return Ok(None);
    }
    let there = |field: &str| {
        let below = format!("{field}.");
        let own = ["id", "status", "created_secs", "problem", "plan", "meta", "result"];
        own.contains(&field) || known.iter().any(|it| it == field || it.starts_with(&below))
    };
    Ok(asked.iter().find(|field| !there(field)).cloned())
}

/// The sentence about a field that no run has.
#[must_use]
pub fn no_such_field(field: &str) -> String {
    format!("no run has a field `{field}`; `mnemoscope runs -o runs.csv` writes all there are")
}

/// The error rate of every set that some run measured.
///
/// # Errors
///
/// Those of [`Store::fields`].
pub fn rates(store: &Store) -> Result<Vec<String>, Error> {
    let mut fields = store.fields()?;
    let of_a_set = |field: &String| {
        let rest = field.strip_prefix("result.eval.").and_then(|it| it.strip_suffix(".error_rate"));
        rest.is_some_and(|set| !set.contains('.'))
    };
    fields.retain(of_a_set);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_name_keys_of_the_spec() {
        let cases = [
            ("model.n_layers=2", "plan.model.n_layers=2"),
            ("arm = lstm", "meta.arm=lstm"),
            ("eval.val.n_errors>0", "result.eval.val.n_errors>0"),
            ("val_sparse.error_rate > 0", "result.eval.val_sparse.error_rate>0"),
            ("status=sealed", "status=sealed"),
            ("seed=3 or plan.seeds.data=1", "plan.seeds.data=3 or plan.seeds.data=1"),
        ];
        for (said, meant) in cases {
            assert_eq!(conditions(&[said.to_owned()]).unwrap()[0].to_string(), meant);
        }
        for nonsense in ["nonsense", "", "n_layers=2"] {
            assert!(conditions(&[nonsense.to_owned()]).is_err(), "{nonsense}");
        }
    }
}
