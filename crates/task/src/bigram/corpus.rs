//! Corpora: how often each character of a text follows each other one.
//!
//! ```text
//! text     abracadabra
//! tokens   a b c d r         the distinct characters in code-point order
//!          0 1 2 3 4
//! counts   a 5, b 2, ...     unigrams: how often each character occurs
//!          a b 2, b r 2, ... bigrams: how often one follows another
//! ```
//!
//! A language needs nothing else of a text, so nothing else is kept. The statistics of the tiny
//! Shakespeare text, which the paper uses, are built in; their origin stands in
//! `crates/task/data/tiny-shakespeare.txt`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::alias::Tables;
use crate::complaint::Complaint;
use crate::error::{Cause, Error};
use crate::token::Token;

/// The most distinct characters a corpus may have.
const MAX_CHARACTERS: usize = Token::MAX as usize;

/// Unigram and bigram counts of the characters of a text: the base laws of a bigram language.
///
/// The distinct characters are the tokens, numbered from 0 in code-point order. A corpus is cheap
/// to clone. As a value in a spec or a record it is `"tiny-shakespeare"`, or its counts.
///
/// # Example
///
/// ```
/// use mnemoscope_task::Corpus;
///
/// let corpus = Corpus::from_text("abracadabra")?;
/// assert_eq!(corpus.d_vocab(), 5);
/// // `a` occurs five times among eleven characters; of the four after it two are `b`.
/// assert_eq!(corpus.p_unigram(0), 5.0 / 11.0);
/// assert_eq!(corpus.p_bigram(0, 1), 2.0 / 4.0);
/// # Ok::<(), mnemoscope_task::Error>(())
/// ```
#[derive(Clone)]
pub struct Corpus(Arc<Counts>);

struct Counts {
    /// The distinct characters, ascending.
    characters: Vec<char>,
    /// How often each occurs.
    unigrams: Vec<u32>,
    /// Running sums of these, each including its own.
    unigram_ends: Vec<u32>,
    /// For each character, what follows it somewhere and how often, ascending.
    successors: Vec<Vec<(Token, u32)>>,
    /// The last character of the text, which has one successor less than occurrences.
    last: Token,
    /// What draws from these counts quickly: a function of them, made when first wanted.
    tables: OnceLock<Tables>,
}

static TINY_SHAKESPEARE: LazyLock<Corpus> = LazyLock::new(|| {
    const NEWLINE: Token = 0;
    let (mut characters, mut successors) = (String::new(), Vec::new());
    for line in include_str!("../../data/tiny-shakespeare.txt").lines() {
        if !line.starts_with('#') {
            let (character, row) = parse_row(line).expect("the built-in table is in its form");
            characters.push(character);
            successors.push(row);
        }
    }
    let form = Form { characters, successors, last: NEWLINE };
    Corpus::from_form(form).expect("the built-in table is a corpus")
});

/// A character's code point, and `id:count` for each of its successors.
fn parse_row(line: &str) -> Option<(char, Vec<(Token, u32)>)> {
    let mut words = line.split(' ');
    let character = char::from_u32(words.next()?.parse().ok()?)?;
    let pair = |word: &str| {
        let (token, count) = word.split_once(':')?;
        Some((token.parse().ok()?, count.parse().ok()?))
    };
    Some((character, words.map(pair).collect::<Option<_>>()?))
}

impl Corpus {
    /// The word for the built-in statistics in specs, records and commands.
    pub const TINY_SHAKESPEARE: &str = "tiny-shakespeare";

    /// The statistics of the tiny Shakespeare text: 1,115,394 characters, 65 of them distinct.
    ///
    /// # Source
    ///
    /// The text is the file `data/tinyshakespeare/input.txt` of github.com/karpathy/char-rnn.
    #[must_use]
    pub fn tiny_shakespeare() -> Self {
        TINY_SHAKESPEARE.clone()
    }

    /// The statistics of any text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the text has fewer than two or more
    /// than 65,535 distinct characters, or 2^32 characters and more, or if its last character
    /// occurs nowhere else: then nothing is known to follow it.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::Corpus;
    ///
    /// let error = Corpus::from_text("").unwrap_err();
    /// assert_eq!(error.to_string(), "the corpus is empty; use a text of two characters and more");
    /// ```
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let mut ids: BTreeMap<char, Token> = text.chars().map(|letter| (letter, 0)).collect();
        let n_distinct = ids.len();
        if n_distinct > MAX_CHARACTERS {
            return Err(refusal(format!(
                "the corpus has {n_distinct} distinct characters; use at most {MAX_CHARACTERS}"
            )));
        }
        for (id, token) in (0..).zip(ids.values_mut()) {
            *token = id;
        }
        let mut pairs: Vec<BTreeMap<Token, u64>> = vec![BTreeMap::new(); n_distinct];
        let mut last = None;
        for letter in text.chars() {
            let token = ids[&letter];
            if let Some(previous) = last.replace(token) {
                *pairs[usize::from(previous)].entry(token).or_default() += 1;
            }
        }
        let mut successors = Vec::with_capacity(n_distinct);
        for row in pairs {
            let count = |(token, n): (Token, u64)| Some((token, u32::try_from(n).ok()?));
            successors
                .push(row.into_iter().map(count).collect::<Option<_>>().ok_or_else(too_long)?);
        }
        let characters = ids.into_keys().collect();
        Self::from_form(Form { characters, successors, last: last.unwrap_or(0) }).map_err(refusal)
    }

    /// The statistics of a text file.
    ///
    /// # Errors
    ///
    /// As [`Corpus::from_text`], with the file's name, also if it is a folder;
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be read,
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if it is not UTF-8.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let about = |what: &dyn fmt::Display| refusal(format!("{}: {what}", path.display()));
        if path.is_dir() {
            return Err(about(&"that is a folder; name a text file"));
        }
        let bytes = std::fs::read(path).map_err(|error| Cause::read(path, error))?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::from_text(text).map_err(|error| about(&error)),
            Err(flaw) => {
                let place = flaw.valid_up_to();
                let what = format!("byte {place} is not text in UTF-8; convert the file first");
                Err(Cause::layout(path, what).into())
            }
        }
    }

    /// The corpus with these counts, or what is wrong with them.
    fn from_form(form: Form) -> Result<Self, String> {
        let Form { characters, successors, last } = form;
        let characters: Vec<char> = characters.chars().collect();
        let n_distinct = characters.len();
        match n_distinct {
            0 => {
                let message = "the corpus is empty; use a text of two characters and more";
                return Err(message.to_owned());
            }
            1 => {
                let only = characters[0].escape_debug();
                let message =
                    format!("the corpus has no character but `{only}`; use a text of two");
                return Err(message + " characters and more");
            }
            _ => {}
        }
        let ascending = characters.is_sorted_by(|a, b| a < b)
            && successors.iter().all(|row| row.is_sorted_by(|a, b| a.0 < b.0));
        let counted = successors
            .iter()
            .flatten()
            .all(|&(next, count)| usize::from(next) < n_distinct && count > 0);
        let fits = n_distinct <= MAX_CHARACTERS
            && successors.len() == n_distinct
            && usize::from(last) < n_distinct;
        if !(ascending && counted && fits) {
            return Err("these are not the counts of a text: characters and successors ascend, \
                        each has a row, and no count is 0"
                .to_owned());
        }
        if let Some(idx) = successors.iter().position(Vec::is_empty) {
            let end = characters[idx].escape_debug();
            return Err(format!(
                "the corpus ends with `{end}`, which occurs nowhere else, so nothing is known to \
                 follow it; end the text elsewhere"
            ));
        }
        let (mut unigrams, mut unigram_ends) = (Vec::new(), Vec::new());
        let mut end = 0_u32;
        for (idx, row) in successors.iter().enumerate() {
            let counts = row.iter().map(|&(_, count)| count);
            let mut counts = counts.chain([u32::from(idx == usize::from(last))]);
            let count = counts.try_fold(0_u32, u32::checked_add).ok_or(TOO_LONG)?;
            end = end.checked_add(count).ok_or(TOO_LONG)?;
            unigrams.push(count);
            unigram_ends.push(end);
        }
        let tables = OnceLock::new();
        Ok(Self(Arc::new(Counts { characters, unigrams, unigram_ends, successors, last, tables })))
    }

    /// Number of characters in the text.
    #[must_use]
    pub fn n_characters(&self) -> u32 {
        self.0.unigram_ends.last().copied().unwrap_or(0)
    }

    /// Number of distinct characters, the paper's `N`.
    #[must_use]
    pub fn d_vocab(&self) -> u32 {
        self.0.characters.len() as u32
    }

    /// The characters that the tokens stand for, `[d_vocab]`.
    #[must_use]
    pub fn characters(&self) -> &[char] {
        &self.0.characters
    }

    /// How often each token occurs in the text, `[d_vocab]`.
    #[must_use]
    pub fn unigrams(&self) -> &[u32] {
        &self.0.unigrams
    }

    /// What follows `token` in the text and how often, by ascending token.
    ///
    /// # Panics
    ///
    /// If there is no such token.
    #[must_use]
    #[track_caller]
    pub fn successors(&self, token: Token) -> &[(Token, u32)] {
        &self.0.successors[usize::from(token)]
    }

    /// The share of a token in the text, the paper's `pi_u`; 0 for numbers that are no token.
    #[must_use]
    pub fn p_unigram(&self, token: Token) -> f64 {
        let count = self.0.unigrams.get(usize::from(token)).copied().unwrap_or(0);
        f64::from(count) / f64::from(self.n_characters())
    }

    /// The share of `next` among the successors of `token`, the paper's `pi_b(next | token)`,
    /// without smoothing; 0 for numbers that are no token.
    #[must_use]
    pub fn p_bigram(&self, token: Token, next: Token) -> f64 {
        let Some(row) = self.0.successors.get(usize::from(token)) else { return 0.0 };
        // The last character of the text has one successor less than occurrences.
        let n = self.0.unigrams[usize::from(token)] - u32::from(token == self.0.last);
        let found = row.binary_search_by_key(&next, |&(next, _)| next);
        found.map_or(0.0, |idx| f64::from(row[idx].1) / f64::from(n))
    }

    /// The tokens by how often they occur, the most frequent first; equals by ascending token.
    #[must_use]
    pub fn ranked(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = (0..self.d_vocab() as Token).collect();
        tokens.sort_by_key(|&token| std::cmp::Reverse(self.0.unigrams[usize::from(token)]));
        tokens
    }

    /// The text of some tokens.
    ///
    /// # Panics
    ///
    /// If one of them is no token of this corpus.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::Corpus;
    ///
    /// assert_eq!(Corpus::tiny_shakespeare().text(&[32, 43, 50, 50, 53, 2]), "Tello!");
    /// ```
    #[must_use]
    #[track_caller]
    pub fn text(&self, tokens: &[Token]) -> String {
        tokens.iter().map(|&token| self.0.characters[usize::from(token)]).collect()
    }

    /// The text of some tokens as one line: `\` is written `\\`, a line feed `\n` and a carriage
    /// return `\r`, so different tokens have different lines.
    ///
    /// # Panics
    ///
    /// If one of them is no token of this corpus.
    #[must_use]
    #[track_caller]
    pub fn line(&self, tokens: &[Token]) -> String {
        let mut line = String::with_capacity(tokens.len());
        for &token in tokens {
            match self.0.characters[usize::from(token)] {
                '\\' => line.push_str("\\\\"),
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                character => line.push(character),
            }
        }
        line
    }

    /// A character as it is shown on a page: a space as `␣`, a line feed as `\n` and other control
    /// characters likewise, so that none of them is invisible or breaks a line.
    ///
    /// # Panics
    ///
    /// If it is no token of this corpus.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::Corpus;
    ///
    /// let corpus = Corpus::tiny_shakespeare();
    /// assert_eq!([0, 1, 2].map(|token| corpus.shown(token)), ["\\n", "␣", "!"]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn shown(&self, token: Token) -> String {
        match self.0.characters[usize::from(token)] {
            ' ' => "␣".to_owned(),
            character if character.is_control() => character.escape_default().collect(),
            character => character.to_string(),
        }
    }

    /// Running sums of the unigram counts: token `k` owns the numbers below the `k`-th that are not
    /// below the one before it.
    pub(super) fn unigram_ends(&self) -> &[u32] {
        &self.0.unigram_ends
    }

    /// What draws from these counts.
    pub(super) fn tables(&self) -> &Tables {
        self.0.tables.get_or_init(|| Tables::of(self))
    }
}

const TOO_LONG: &str = "the corpus has 2^32 characters or more; use a part of it";

fn too_long() -> Error {
    refusal(TOO_LONG.to_owned())
}

fn refusal(message: String) -> Error {
    Cause::Task { complaints: vec![Complaint::new("corpus", message)] }.into()
}

impl PartialEq for Corpus {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.0, &other.0);
        Arc::ptr_eq(ours, theirs)
            || (ours.characters == theirs.characters
                && ours.successors == theirs.successors
                && ours.last == theirs.last)
    }
}

impl Eq for Corpus {}

impl fmt::Debug for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.n_characters();
        write!(f, "Corpus({n} characters, {} distinct)", self.d_vocab())
    }
}

/// The counts as they are stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    /// The distinct characters, ascending.
    characters: String,
    /// For each of them `[token, count]` of what follows it, ascending.
    successors: Vec<Vec<(Token, u32)>>,
    /// The last character of the text.
    last: Token,
}

impl Serialize for Corpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == *TINY_SHAKESPEARE {
            return serializer.serialize_str(Self::TINY_SHAKESPEARE);
        }
        let Counts { characters, successors, last, .. } = &*self.0;
        let (characters, successors) = (characters.iter().collect(), successors.clone());
        Form { characters, successors, last: *last }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Corpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Name(String),
            Counts(Form),
        }
        match Stored::deserialize(deserializer)? {
            Stored::Name(name) if name == Self::TINY_SHAKESPEARE => Ok(Self::tiny_shakespeare()),
            Stored::Name(name) => Err(de::Error::custom(format_args!(
                "`{name}` is no built-in corpus; there is `{}`",
                Self::TINY_SHAKESPEARE
            ))),
            Stored::Counts(form) => Self::from_form(form).map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        let error = Corpus::from_text(text).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text:?}");
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
    }

    #[test]
    fn a_text_that_gives_no_laws_is_refused_with_one_message() {
        check_refused("", "the corpus is empty; use a text of two characters and more");
        for only in ["\n", "\n\n\n"] {
            check_refused(
                only,
                "the corpus has no character but `\\n`; use a text of two characters and more",
            );
        }
        check_refused(
            "abab!",
            "the corpus ends with `!`, which occurs nowhere else, so nothing is known to follow \
             it; end the text elsewhere",
        );
        let many: String = (0..70_000).filter_map(char::from_u32).collect();
        check_refused(&many, "the corpus has 67952 distinct characters; use at most 65535");
    }

    #[test]
    fn a_file_that_gives_no_laws_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, bytes: Option<&[u8]>, kind, expected: &str| {
            let path = folder.path().join(name);
            if let Some(bytes) = bytes {
                std::fs::write(&path, bytes).unwrap();
            }
            let error = Corpus::from_file(&path).unwrap_err();
            assert_eq!(error.to_string(), expected.replace("{}", &path.display().to_string()));
            assert_eq!(error.kind(), kind, "{name}");
        };
        use crate::ErrorKind::{Corrupt, Invalid, Io};
        let empty = "{}: the corpus is empty; use a text of two characters and more";
        check("empty.txt", Some(b""), Invalid, empty);
        let one = "{}: the corpus has no character but `a`; use a text of two characters and more";
        check("one.txt", Some(b"aaaa"), Invalid, one);
        let latin = "{}: byte 3 is not text in UTF-8; convert the file first";
        check("latin.txt", Some(b"caf\xe9"), Corrupt, latin);
        check("missing.txt", None, Io, "cannot read {}");
        check("", None, Invalid, "{}: that is a folder; name a text file");
        let text: String = (0..70_000).filter_map(char::from_u32).collect();
        let many = "{}: the corpus has 67952 distinct characters; use at most 65535";
        check("many.txt", Some(text.as_bytes()), Invalid, many);
        std::fs::write(folder.path().join("good.txt"), "abracadabra").unwrap();
        let good = Corpus::from_file(&folder.path().join("good.txt")).unwrap();
        assert_eq!(good, Corpus::from_text("abracadabra").unwrap());
    }

    #[test]
    fn counts_are_those_of_the_text() {
        let corpus = Corpus::from_text("hé, hé!h").unwrap();
        assert_eq!(corpus.characters(), [' ', '!', ',', 'h', 'é']);
        assert_eq!(corpus.unigrams(), [1, 1, 1, 3, 2]);
        assert_eq!(corpus.successors(4), [(1, 1), (2, 1)]);
        assert_eq!(corpus.successors(3), [(4, 2)]);
        assert_eq!(corpus.ranked(), [3, 4, 0, 1, 2]);
        assert!((corpus.p_bigram(4, 1) - 0.5).abs() < 1e-15);
        assert!(corpus.p_bigram(4, 4).abs() < 1e-15 && corpus.p_bigram(9, 9).abs() < 1e-15);
        assert_eq!(corpus.text(&[3, 4]), "hé");
    }

    #[test]
    fn a_line_tells_apart_what_the_text_does() {
        let corpus = Corpus::from_text("a\\n\n\r\\a").unwrap();
        let tokens: Vec<Token> = (0..corpus.d_vocab() as Token).collect();
        assert_eq!(corpus.text(&tokens), "\n\r\\an");
        assert_eq!(corpus.line(&tokens), "\\n\\r\\\\an");
    }

    /// The figures that are known of the text, from sources that counted it separately.
    #[test]
    fn the_built_in_statistics_are_those_of_the_text() {
        let corpus = Corpus::tiny_shakespeare();
        assert_eq!(corpus.d_vocab(), 65);
        assert_eq!(corpus.unigrams().iter().sum::<u32>(), 1_115_394);
        let count =
            |letter: char| corpus.unigrams()[corpus.characters().binary_search(&letter).unwrap()];
        let counts = ['\n', ' ', '!', '$', '&', '3', 'X'].map(count);
        assert_eq!(counts, [40_000, 169_892, 2_172, 1, 3, 27, 112]);
        assert_eq!((0..65).map(|token| corpus.successors(token).len()).sum::<usize>(), 1_403);
        let entropy = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
        let unigram: f64 = (0..65).map(|token| entropy(corpus.p_unigram(token))).sum();
        let row = |token| (0..65).map(|next| entropy(corpus.p_bigram(token, next))).sum::<f64>();
        let bigram: f64 = (0..65).map(|token| corpus.p_unigram(token) * row(token)).sum();
        assert!((unigram - 3.3128).abs() < 1e-4 && (bigram - 2.4526).abs() < 1e-4);
        assert_eq!(corpus.text(&corpus.ranked()[..12]), " etoahsrni\nl");
    }

    #[test]
    fn a_corpus_is_stored_by_name_or_by_its_counts() {
        let check = |corpus: &Corpus, json: &str| {
            assert_eq!(serde_json::to_string(corpus).unwrap(), json);
            assert_eq!(serde_json::from_str::<Corpus>(json).unwrap(), *corpus);
        };
        check(&Corpus::tiny_shakespeare(), "\"tiny-shakespeare\"");
        check(
            &Corpus::from_text("abba").unwrap(),
            r#"{"characters":"ab","successors":[[[1,1]],[[0,1],[1,1]]],"last":0}"#,
        );
        assert_ne!(Corpus::from_text("abba").unwrap(), Corpus::from_text("babba").unwrap());
    }

    #[test]
    fn stored_counts_of_no_text_are_refused() {
        let check = |json: &str, expected: &str| {
            let refusal = serde_json::from_str::<Corpus>(json).unwrap_err().to_string();
            assert!(refusal.starts_with(expected), "{json}: {refusal}");
        };
        check("\"bible\"", "`bible` is no built-in corpus; there is `tiny-shakespeare`");
        check(r#"{"characters":"","successors":[],"last":0}"#, "the corpus is empty");
        let wrong = "these are not the counts of a text";
        check(r#"{"characters":"ba","successors":[[[1,1]],[[0,1]]],"last":0}"#, wrong);
        check(r#"{"characters":"ab","successors":[[[1,1]]],"last":0}"#, wrong);
        check(r#"{"characters":"ab","successors":[[[2,1]],[[0,1]]],"last":0}"#, wrong);
        check(r#"{"characters":"ab","successors":[[[1,0]],[[0,1]]],"last":0}"#, wrong);
        check(r#"{"characters":"ab","successors":[[[1,1]],[[1,1],[0,1]]],"last":0}"#, wrong);
        check(r#"{"characters":"ab","successors":[[[1,1]],[[0,1]]],"last":2}"#, wrong);
        check(
            r#"{"characters":"ab","successors":[[[1,4294967295]],[[0,1]]],"last":0}"#,
            "the corpus has 2^32 characters or more",
        );
    }
}
