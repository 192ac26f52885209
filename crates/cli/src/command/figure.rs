//! `mnemoscope figure`: what runs or a study have to show, as SVG, PNG or the numbers themselves.

use std::path::{Path, PathBuf};

use clap::Args;
use mnemoscope_lab::probe::map::{HeadMap, Maps, finished};
use mnemoscope_view::figure::{Figure, Kind, Map, Panel, Plot, marks_of, why_not};
use mnemoscope_view::glitch::Language;
use mnemoscope_view::{WIDTH, number, text};
use serde_json::{Value, json};

use crate::command::subject::{Subject, SubjectFlags};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `figure`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    subject: SubjectFlags,
    /// Only the figure of this name; may be repeated. Without -o the names are listed
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only figures of this kind; may be repeated
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Vec<Kind>,
    /// Where each head of a run looks in this text; on flip-flop such as w1i0r1, of the automaton such
    /// as 1--0-
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// One figure as .svg, .png or .json, or a folder for all of them
    #[arg(long, short, value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    /// In a folder, PNG instead of SVG
    #[arg(long, requires = "output")]
    png: bool,
    /// Pixels of a PNG for each unit of the SVG
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10))]
    pixels: u8,
}

/// A kind by its word, or the words there are.
fn kind(word: &str) -> Result<Kind, String> {
    let words = || Kind::ALL.map(Kind::word).join(", ");
    Kind::of_word(word).ok_or_else(|| format!("the kinds are {}", words()))
}

struct Figures {
    figures: Vec<Figure>,
    written: Vec<PathBuf>,
}

impl Spoken for Figures {
    fn page(&self) -> String {
        let mut page = String::new();
        if self.written.is_empty() {
            for figure in &self.figures {
                page += &text::wrap(&figure.name, WIDTH, "  ");
                page += &text::wrap(&figure.title, WIDTH, "      ");
            }
            let n = number::counted(self.figures.len() as u64, "figure", "figures");
            page += &format!("\n  {n}; `--only NAME -o NAME.svg` draws one, `-o DIR` all\n");
        }
        for path in &self.written {
            page += &format!("  {}\n", path.display());
        }
        page
    }

    fn json(&self) -> Value {
        let written: Vec<String> =
            self.written.iter().map(|path| path.display().to_string()).collect();
        json!({"figures": self.figures, "written": written})
    }

    fn brief(&self) -> String {
        if self.written.is_empty() {
            return self.figures.iter().map(|figure| format!("{}\n", figure.name)).collect();
        }
        self.written.iter().map(|path| format!("{}\n", path.display())).collect()
    }
}

/// Lists figures, or draws them.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let subject = Subject::find(&flags.subject, session)?;
    if subject.n_missing > 0 {
        let missing = number::counted(subject.n_missing as u64, "run", "runs");
        session.voice.note(&format!("not in the store, and left out: {missing}"));
    }
    let mut figures = match &flags.text {
        None => subject.figures(),
        Some(text) => vec![in_text(&subject, text, session)?],
    };
    for kind in &flags.kind {
        if figures.iter().all(|figure| figure.kind != *kind) {
            return Err(Failure::usage(why_not(*kind, &subject.sources)));
        }
    }
    figures.retain(|figure| flags.kind.is_empty() || flags.kind.contains(&figure.kind));
    let names: Vec<String> = figures.iter().map(|figure| figure.name.clone()).collect();
    if let Some(unknown) = flags.only.iter().find(|only| !names.contains(only)) {
        return Err(Failure::usage(format!("no figure is called {unknown:?}"))
            .help(format!("there are {}", listed(&names))));
    }
    figures.retain(|figure| flags.only.is_empty() || flags.only.contains(&figure.name));
    if figures.is_empty() {
        return Err(Failure::usage(
            "these runs recorded nothing to draw; `mnemoscope show RUN` says how one stands",
        ));
    }
    let written = match &flags.output {
        None => Vec::new(),
        Some(output) => write(output, &figures, flags)?,
    };
    session.say(&Figures { figures, written }, Exit::Done)
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn write(output: &Path, figures: &[Figure], flags: &Flags) -> Result<Vec<PathBuf>, Failure> {
    let extension = output.extension().and_then(|it| it.to_str()).unwrap_or_default();
    match (extension, figures) {
        ("svg" | "png" | "json", [figure]) => {
            write_one(output, figure, extension, flags.pixels)?;
            Ok(vec![output.to_owned()])
        }
        ("svg" | "png" | "json", several) => {
            let names: Vec<String> = several.iter().map(|figure| figure.name.clone()).collect();
            Err(Failure::usage(format!(
                "{} is one file and there are {}; choose with `--only NAME`, or name a folder",
                output.display(),
                number::counted(several.len() as u64, "figure", "figures")
            ))
            .help(format!("there are {}", listed(&names))))
        }
        ("", figures) => {
            let kind = if flags.png { "png" } else { "svg" };
            std::fs::create_dir_all(output).map_err(|why| cannot_write(output, &why))?;
            let write = |figure: &Figure| {
                let path = output.join(format!("{}.{kind}", figure.name));
                write_one(&path, figure, kind, flags.pixels)?;
                Ok(path)
            };
            figures.iter().map(write).collect()
        }
        (unknown, _) => Err(Failure::usage(format!(
            "figures are written as .svg, .png or .json, not as .{unknown}; a folder has no ending"
        ))),
    }
}

fn write_one(path: &Path, figure: &Figure, kind: &str, pixels: u8) -> Result<(), Failure> {
    let bytes = match kind {
        "png" => figure.to_png(f32::from(pixels)),
        "json" => format!("{:#}\n", json!(figure)).into_bytes(),
        _ => figure.to_svg_with_font().into_bytes(),
    };
    std::fs::write(path, bytes).map_err(|why| cannot_write(path, &why))
}

/// The refusal of a file or a folder.
pub(crate) fn cannot_write(path: &Path, why: &std::io::Error) -> Failure {
    Failure::machine(format!("cannot write {}", path.display())).because(why)
}

/// All patterns of the heads of one run in a text.
fn in_text(subject: &Subject, text: &str, session: &Session) -> Result<Figure, Failure> {
    let [run] = subject.records.as_slice() else {
        return Err(Failure::usage("--text looks at the heads of one run; name one"));
    };
    let Maps { characters, answers, heads } =
        finished(run, text, session.n_threads, session.device)?;
    let rows: Vec<String> = characters
        .iter()
        .zip(&answers)
        .map(|(character, answer)| format!("{character}→{answer}"))
        .collect();
    let language = match run.plan()["task"]["name"].as_str() {
        Some("automaton") => Language::Automaton,
        Some("flipflop" | "mixture") => Language::FlipFlop,
        _ => Language::Spelt,
    };
    let (marks, wrong_rows) = marks_of(language, &characters, &answers);
    let wrong_words = if wrong_rows.is_empty() { "" } else { " ×: a row with a wrong answer." };
    let panel = |map: &HeadMap| Panel {
        name: format!("layer {}, head {}", map.layer, map.head),
        rows: rows.clone(),
        shares: (0..map.pattern.dims()[0]).map(|query| map.pattern.row(query).to_vec()).collect(),
    };
    Ok(Figure {
        kind: Kind::Attention,
        name: format!("attention-{}", run.id()),
        title: format!("Where the heads of run {} look", run.id()),
        caption: format!(
            "A panel a head. A row a token that asks, with what the model answers after it, a column a token it may \
             look at. The darker, the larger the share of attention; black is all of it. Framed: the largest share \
             of the row.{wrong_words}"
        ),
        plot: Plot::Map(Map {
            run: run.id().to_owned(),
            keys: characters,
            row_axis: "token → answer".to_owned(),
            panels: heads.iter().map(panel).collect(),
            marks,
            wrong_rows,
        }),
    })
}
