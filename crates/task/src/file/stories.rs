//! Stories as JSON lines, and what models said to them.
//!
//! ```text
//! stories  {"id":"s0-t50-0","seq_len":50,...,"prompt":"...","options":[" on"," off"],"answer":" on",...}
//! outputs  {"id":"s0-t50-0","logprobs":{" on":-0.1," off":-2.4}}
//!      or  {"id":"s0-t50-0","generated":" on. Then,"}
//! ```
//!
//! An output may have more fields, so the line of a story with `logprobs` or `generated` added is one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::provenance::sidecar;
use super::staged::Staged;
use crate::error::{Cause, Error};
use crate::story::{OPTIONS, Said, Stories, Story};

/// Where the stories of a file came from: enough to tell them again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoryProvenance {
    /// The version of this form: 1.
    pub format: u32,
    /// What made the file: `mnemoscope stories`.
    pub generator: String,
    /// The release that made it.
    pub version: String,
    /// Which strings are told, and how.
    pub stories: Stories,
    /// The seed of their streams.
    pub seed: u64,
    /// Number of stories, a line each.
    pub n_stories: u64,
    /// BLAKE3 of the file.
    pub content_blake3: String,
}

/// Writes stories as JSON lines, and their provenance to `FILE.meta.json`.
///
/// Both appear under their names when they are whole.
///
/// # Errors
///
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if something is wrong with the set or the path
/// names no file; [`ErrorKind::Full`](crate::ErrorKind::Full) and
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the system refuses; then nothing is left behind.
///
/// # Example
///
/// ```
/// use mnemoscope_task::file;
/// use mnemoscope_task::story::{Said, Stories, score};
///
/// let folder = tempfile::tempdir()?;
/// let (path, outputs) = (folder.path().join("stories.jsonl"), folder.path().join("said.jsonl"));
/// let set = Stories { seq_lens: vec![10], n_per_len: 1, ..Stories::paper() };
/// file::write_stories(&path, &set, 0)?;
/// let stories = file::read_stories(&path)?;
/// assert_eq!(stories, [set.story(0, 10, 0)]);
/// std::fs::write(&outputs, r#"{"id":"s0-t10-0","logprobs":{" on":-0.4," off":-1.1}}"#)?;
/// let said = file::read_outputs(&outputs, &stories)?;
/// assert_eq!(said, [Said::LogProbs([-0.4, -1.1])]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_stories(path: &Path, stories: &Stories, seed: u64) -> Result<StoryProvenance, Error> {
    let stories = stories.clone().checked()?;
    let refused = |error| Error::from(Cause::write(path, error));
    let (staged, file) = Staged::create(path)?;
    let mut out = BufWriter::new(file);
    let mut content = blake3::Hasher::new();
    for story in stories.stories(seed) {
        let line = story_line(&story).map_err(refused)?;
        content.update(&line);
        out.write_all(&line).map_err(refused)?;
    }
    let file = out.into_inner().map_err(|error| refused(error.into_error()))?;
    let provenance = StoryProvenance {
        format: 1,
        generator: "mnemoscope stories".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        n_stories: stories.n_stories(),
        stories,
        seed,
        content_blake3: content.finalize().to_hex().as_str().to_owned(),
    };
    let beside = sidecar(path);
    let refused = |error| Error::from(Cause::write(&beside, error));
    let (staged_beside, mut file_beside) = Staged::create(&beside)?;
    let json = serde_json::to_string_pretty(&provenance).map_err(|why| refused(why.into()))?;
    file_beside.write_all((json + "\n").as_bytes()).map_err(refused)?;
    staged.publish(&file)?;
    staged_beside.publish(&file_beside)?;
    Ok(provenance)
}

/// A story as the line of a file, with its line feed.
///
/// # Errors
///
/// None that a story can cause.
pub fn story_line(story: &Story) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(story)?;
    line.push(b'\n');
    Ok(line)
}

/// The stories of a file.
///
/// # Errors
///
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if it cannot be read;
/// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), with the line, if a line is no story, an answer
/// is none of the two options or an id is there twice.
pub fn read_stories(path: &Path) -> Result<Vec<Story>, Error> {
    let mut stories: Vec<Story> = Vec::new();
    let mut lines_of = BTreeMap::new();
    each_line::<Story>(path, "story", |n_line, story| {
        if story.options != OPTIONS || !OPTIONS.contains(&story.answer.as_str()) {
            return Err(format!(
                "the options of story {} are not {OPTIONS:?} with an answer of the two; generate the \
                 file again",
                story.id
            ));
        }
        if let Some(first) = lines_of.insert(story.id.clone(), n_line) {
            return Err(format!("story {} stood in line {first} already; keep one", story.id));
        }
        stories.push(story);
        Ok(())
    })?;
    if stories.is_empty() {
        return Err(Cause::layout(path, "it holds no story; generate it again").into());
    }
    Ok(stories)
}

/// What a model said to each of the stories, in their order.
///
/// # Errors
///
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be read;
/// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if a line is no output, or if ids are missing,
/// there twice, or those of no story: all of them in one message.
pub fn read_outputs(path: &Path, stories: &[Story]) -> Result<Vec<Said>, Error> {
    let places: BTreeMap<&str, usize> =
        stories.iter().enumerate().map(|(place, story)| (story.id.as_str(), place)).collect();
    let mut said: Vec<Option<Said>> = vec![None; stories.len()];
    let (mut twice, mut unknown) = (Vec::new(), Vec::new());
    each_line::<OutputLine>(path, "output", |_, line| {
        let id = line.id.clone();
        let output = line.said()?;
        match places.get(id.as_str()) {
            None => unknown.push(id),
            Some(&place) if said[place].is_some() => twice.push(id),
            Some(&place) => said[place] = Some(output),
        }
        Ok(())
    })?;
    let unanswered =
        |(story, said): (&Story, &Option<Said>)| said.is_none().then(|| story.id.clone());
    let missing: Vec<String> = std::iter::zip(stories, &said).filter_map(unanswered).collect();
    let wrong = [("missing", missing), ("there twice", twice), ("of no story", unknown)];
    let wrong: Vec<String> = wrong
        .iter()
        .filter(|(_, ids)| !ids.is_empty())
        .map(|(what, ids)| format!("{} {what}: {}", ids.len(), named(ids)))
        .collect();
    if !wrong.is_empty() {
        let what = format!(
            "its ids are not those of the {} stories, each once; {}",
            stories.len(),
            wrong.join("; ")
        );
        return Err(Cause::layout(path, what).into());
    }
    Ok(said.into_iter().flatten().collect())
}

/// Ids in one line, the first of many.
fn named(ids: &[String]) -> String {
    const MOST: usize = 10;
    let mut list = ids.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    if ids.len() > MOST {
        list += &format!(" and {} more", ids.len() - MOST);
    }
    list
}

/// A line of a file of outputs.
#[derive(Deserialize)]
struct OutputLine {
    id: String,
    logprobs: Option<BTreeMap<String, f64>>,
    generated: Option<String>,
}

impl OutputLine {
    /// What was said, or why it cannot be told.
    fn said(self) -> Result<Said, String> {
        let Self { id, logprobs, generated } = self;
        match (logprobs, generated) {
            (Some(logprobs), None) => {
                let of = |option| logprobs.get(option).copied();
                match (of(OPTIONS[0]), of(OPTIONS[1]), logprobs.len()) {
                    (Some(on), Some(off), 2) => Ok(Said::LogProbs([on, off])),
                    _ => Err(format!(
                        "the logprobs of {id} are of {:?}; give one for each of {OPTIONS:?}, the \
                         spaces included",
                        logprobs.keys().collect::<Vec<_>>()
                    )),
                }
            }
            (None, Some(generated)) => Ok(Said::Generated(generated)),
            (Some(_), Some(_)) => {
                Err(format!("{id} has both logprobs and generated; give one of the two"))
            }
            (None, None) => Err(format!(
                "{id} has neither logprobs, such as {{\" on\": -0.1, \" off\": -2.4}}, nor generated, \
                 such as \" on.\""
            )),
        }
    }
}

/// Hands each line of a file to `take`, with its number from 1; `what` is what a line should be.
fn each_line<T: for<'d> Deserialize<'d>>(
    path: &Path,
    what: &str,
    mut take: impl FnMut(u64, T) -> Result<(), String>,
) -> Result<(), Error> {
    let refused = |error| Error::from(Cause::read(path, error));
    let mut lines = Lines::new(File::open(path).map_err(refused)?);
    let mut n_line = 0;
    while let Some(line) = lines.next_line().map_err(refused)? {
        n_line += 1;
        let line = line.map_err(|flaw| flaw.to_string());
        let parsed = line.and_then(|line| {
            serde_json::from_str(line).map_err(|why| format!("it is no {what}: {why}"))
        });
        parsed
            .and_then(|parsed| take(n_line, parsed))
            .map_err(|why| Cause::layout(path, format!("line {n_line}: {why}")))?;
    }
    Ok(())
}
