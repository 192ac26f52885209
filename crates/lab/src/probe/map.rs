//! Where every head looks in a text of one's own, as figures 2 and 11 of "Birth of a Transformer" show it, and
//! in a string of one's own, as figures 5, 16 and 19 of "Exposing Attention Glitches" do.

use mnemoscope_engine::QueryRows;
use mnemoscope_engine::burn::tensor::{Tensor, TensorData};
use mnemoscope_engine::device::Device;
use mnemoscope_engine::{Ops, burn};
use mnemoscope_model::Model;
use mnemoscope_model::hook::{Record, points};
use mnemoscope_model::params::Array;
use mnemoscope_store::RunReader;
use mnemoscope_task::{Task, Token};

use super::attention::{answers, patterns_of_heads};
use super::memory::Matrix;
use crate::eval::has_reads;
use crate::on_device::on_device;
use crate::replay::open_model;
use crate::{Error, ErrorKind};

/// A text, what the model answers after each of its tokens, and where each head looks.
#[derive(Clone, Debug)]
pub struct Maps {
    /// The text's characters, each in a form that can be seen.
    pub characters: Vec<String>,
    /// The most likely next character after each.
    pub answers: Vec<String>,
    /// By layer, then by head.
    pub heads: Vec<HeadMap>,
}

/// The pattern of one head.
#[derive(Clone, Debug)]
pub struct HeadMap {
    /// Counted from 0.
    pub layer: usize,
    /// Counted from 0.
    pub head: usize,
    /// `[query, key]`, softmax over keys.
    pub pattern: Matrix,
}

/// Looks at all patterns of the last checkpoint of a run in a text; the record is not touched.
///
/// A text on flip-flop is spelt as `w0i1r0`, one of the automaton as `1--0-`.
///
/// # Errors
///
/// `NotFound`, if the run has no checkpoint, its model no heads, or its language is not spelt in single characters; `Spec`, if the
/// text is empty, has characters that the language does not know, or more than the model has places;
/// `Corrupt` and `Incompatible` from reading the run.
pub fn finished(
    run: &RunReader,
    text: &str,
    n_threads: usize,
    device: Device,
) -> Result<Maps, Error> {
    on_device!(device, of run, finished_on(run: &'a RunReader, text: &'a str, n_threads: usize) -> Maps)
}

fn finished_on<B: Ops>(
    device: &burn::tensor::Device<B>,
    run: &RunReader,
    text: &str,
    n_threads: usize,
) -> Result<Maps, Error> {
    let (plan, model, _) = open_model::<B>(run, device)?;
    let pool = crate::run::pool(n_threads)?;
    crate::run::install(&pool, || of_text(&plan.task, &model, text, device))
}

/// Looks at a text in a task's characters.
pub(super) fn of_text<B: Ops>(
    task: &Task,
    model: &Model<B>,
    text: &str,
    device: &burn::tensor::Device<B>,
) -> Result<Maps, Error> {
    if let Task::Bigram(language) = task {
        let tokens = tokens_of(language.corpus.characters(), text)?;
        return look(model, &tokens, &|token| language.corpus.shown(token), device);
    }
    let known = letters(task).ok_or_else(|| {
        let why = "its strings are not spelt in single characters, so none can be given".to_owned();
        Error::new(ErrorKind::NotFound, why)
    })?;
    let shown = |token: Token| known.get(usize::from(token)).map_or('?', |&it| it).to_string();
    look(model, &tokens_of(&known, text)?, &shown, device)
}

/// The characters of flip-flop strings and of the automaton, at the places of their tokens.
fn letters(task: &Task) -> Option<Vec<char>> {
    let digits = |n: u32| (0..n).filter_map(|digit| char::from_digit(digit, 10));
    match task {
        Task::Automaton(_) => Some(std::iter::once('-').chain(digits(2)).collect()),
        _ if has_reads(task) && task.n_symbols() <= 10 => {
            Some("wri".chars().chain(digits(task.n_symbols())).collect())
        }
        _ => None,
    }
}

/// The tokens of a text.
///
/// # Errors
///
/// `Spec`, if the text is empty or has a character that the language does not know.
fn tokens_of(known: &[char], text: &str) -> Result<Vec<Token>, Error> {
    let refused = |why: String| Error::new(ErrorKind::Spec, why);
    if text.is_empty() {
        return Err(refused("the text is empty: there is nothing to look at".to_owned()));
    }
    let token = |character: char| {
        let place = known.iter().position(|&known| known == character);
        place.map(|place| Token::try_from(place).expect("a place in the vocabulary is a token"))
    };
    text.chars()
        .map(|character| {
            token(character).ok_or_else(|| {
                let all: String = known.iter().collect();
                refused(format!("the language does not know {character:?}; it knows {all:?}"))
            })
        })
        .collect()
}

/// Looks at all patterns of a model on one sequence.
///
/// # Errors
///
/// `Spec`, if the sequence has more tokens than the model has places.
fn look<B: Ops>(
    model: &Model<B>,
    tokens: &[Token],
    shown: &dyn Fn(Token) -> String,
    device: &burn::tensor::Device<B>,
) -> Result<Maps, Error> {
    let n_pos = tokens.len();
    let too_long =
        |n_ctx| format!("the text has {n_pos} characters, and the model knows {n_ctx} places");
    let Seen { answers, patterns, .. } = see(model, tokens, &too_long, device)?;
    let heads = patterns.into_iter().map(|(layer, head, data)| {
        let pattern = Matrix::of(&Array { shape: vec![n_pos, n_pos], data });
        HeadMap { layer, head, pattern }
    });
    let shown = |tokens: &[Token]| tokens.iter().map(|&token| shown(token)).collect();
    Ok(Maps { characters: shown(tokens), answers: shown(&answers), heads: heads.collect() })
}

/// What one pass over one sequence shows.
pub(crate) struct Seen {
    /// `[pos, d_vocab]`.
    pub(crate) logits: Vec<f32>,
    /// The most likely next token after each.
    pub(super) answers: Vec<Token>,
    /// Layer, head, and the pattern: `[query, key]`.
    pub(crate) patterns: Vec<(usize, usize, Vec<f32>)>,
}

/// Answers one sequence at every place and reads every pattern of it.
///
/// # Errors
///
/// `Spec` with what `too_long` says of the places there are, if the sequence has more tokens; `NotFound`, if the
/// model has no heads.
pub(super) fn see<B: Ops>(
    model: &Model<B>,
    tokens: &[Token],
    too_long: &dyn Fn(usize) -> String,
    device: &burn::tensor::Device<B>,
) -> Result<Seen, Error> {
    let seen = look_at(model, tokens, too_long, device)?;
    if seen.patterns.is_empty() {
        let why = format!("a model `{}` has no heads to look at", model.spec().name());
        return Err(Error::new(ErrorKind::NotFound, why));
    }
    Ok(seen)
}

/// [`see`] of any model; one without heads has no patterns.
///
/// # Errors
///
/// `Spec` with what `too_long` says of the places there are, if the sequence has more tokens.
pub(crate) fn look_at<B: Ops>(
    model: &Model<B>,
    tokens: &[Token],
    too_long: &dyn Fn(usize) -> String,
    device: &burn::tensor::Device<B>,
) -> Result<Seen, Error> {
    let (spec, n_pos) = (model.spec(), tokens.len());
    if let Some(n_ctx) = spec.n_ctx().filter(|&n_ctx| n_pos > n_ctx) {
        return Err(Error::new(ErrorKind::Spec, too_long(n_ctx)));
    }
    let names: Vec<String> = points(&spec)
        .into_iter()
        .map(|point| point.name)
        .filter(|name| name.ends_with(".attn.hook_pattern"))
        .collect();
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut record = Record::new(&spec, &asked)?;
    let numbers: Vec<i32> = tokens.iter().map(|&token| i32::from(token)).collect();
    let fed = Tensor::from_data(TensorData::new(numbers, [1, n_pos]), device);
    let logits = model.logits(fed, &QueryRows::all(1, n_pos), &mut record);
    let d_vocab = logits.dims()[1];
    let logits =
        logits.into_data().into_vec::<f32>().expect("the model computes in single precision");
    let patterns = names.iter().enumerate().flat_map(|(layer, name)| {
        let patterns = patterns_of_heads(&record.values()[name], 0, n_pos);
        patterns.into_iter().enumerate().map(move |(head, pattern)| (layer, head, pattern))
    });
    let patterns = patterns.collect();
    Ok(Seen { answers: answers(&logits, d_vocab), logits, patterns })
}

#[cfg(test)]
mod tests {
    use mnemoscope_engine::device::{Cpu, cpu};
    use mnemoscope_model::{AssociativeSpec, LstmSpec, ModelSpec, TransformerSpec};
    use mnemoscope_stats::stream::Stream;
    use mnemoscope_task::Bigram;

    use super::*;

    #[test]
    fn every_head_of_every_layer_is_seen_and_sums_to_one_over_the_past() {
        let heads = TransformerSpec { n_heads: 4, n_layers: 3, ..TransformerSpec::birth_full() };
        let specs = [
            (ModelSpec::Transformer(heads), 12),
            (ModelSpec::Associative(AssociativeSpec::birth()), 2),
        ];
        let task = Task::Bigram(Bigram::paper(5));
        for (spec, n_maps) in specs {
            let model = Model::<Cpu>::init(&spec, &Stream::root(3), &cpu());
            let maps = of_text(&task, &model, "thbntL&CL&C bth", &cpu()).unwrap();
            assert_eq!((maps.heads.len(), maps.answers.len()), (n_maps, 15));
            assert_eq!(maps.characters.concat(), "thbntL&CL&C␣bth");
            for HeadMap { pattern, .. } in &maps.heads {
                assert_eq!(pattern.dims(), [15, 15]);
                for query in 0..15 {
                    let row = pattern.row(query);
                    assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-5);
                    assert!(row[query + 1..].iter().all(|&x| x == 0.0));
                }
            }
            let differ = maps.heads.windows(2).all(|two| two[0].pattern != two[1].pattern);
            assert!(differ, "{spec:?}");
        }
    }

    #[test]
    fn what_cannot_be_looked_at_is_refused_in_words() {
        let task = Task::Bigram(Bigram::paper(5));
        let spec = AssociativeSpec { n_ctx: 4, ..AssociativeSpec::birth() };
        let model = Model::<Cpu>::init(&ModelSpec::Associative(spec), &Stream::root(3), &cpu());
        let why = |text: &str| of_text(&task, &model, text, &cpu()).unwrap_err().to_string();
        assert!(why("").starts_with("the text is empty"));
        assert!(why("to bé").starts_with("the language does not know 'é'"), "{}", why("to bé"));
        assert_eq!(why("to be"), "the text has 5 characters, and the model knows 4 places");
        let headless = ModelSpec::Lstm(LstmSpec { n_layers: 1, d_model: 8, d_vocab: 65 });
        let headless = Model::<Cpu>::init(&headless, &Stream::root(3), &cpu());
        let why = of_text(&task, &headless, "to be", &cpu()).unwrap_err();
        assert_eq!(
            (why.kind(), why.to_string().as_str()),
            (ErrorKind::NotFound, "a model `lstm` has no heads to look at")
        );
    }

    #[test]
    fn strings_of_both_forms_of_flip_flop_are_spelt_in_their_letters() {
        let spec = TransformerSpec::x_transformers(2, 8, 2);
        let model = Model::<Cpu>::init(&ModelSpec::Transformer(spec), &Stream::root(3), &cpu());
        for (task, text) in [
            (Task::Automaton(mnemoscope_task::Automaton::paper()), "1-0--01-"),
            (Task::FlipFlop(mnemoscope_task::FlipFlop::paper(0.8).unwrap()), "w1i0r1"),
        ] {
            let maps = of_text(&task, &model, text, &cpu()).unwrap();
            assert_eq!((maps.characters.concat(), maps.heads.len()), (text.to_owned(), 4));
            assert_eq!(maps.answers.len(), text.len());
            let why = of_text(&task, &model, "x", &cpu()).unwrap_err().to_string();
            assert!(why.starts_with("the language does not know 'x'; it knows "), "{why}");
        }
        assert_eq!(tokens_of(&['-', '0', '1'], "1-0").unwrap(), [2, 0, 1]);
    }
}
