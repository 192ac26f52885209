//! Pages: one frame around all of them, and what they have in common.
//!
//! A page is whole without its script: tables, figures and words are set here, by the code that sets reports. The
//! script only fetches the part within `#live` again, and draws the viewer of a glitch.

pub(super) mod compare;
pub(super) mod glitch;
pub(super) mod run;
pub(super) mod runs;
pub(super) mod studies;

use std::collections::BTreeSet;

use axum::http::StatusCode;

use super::lab::Refusal;
use super::web::{Query, Reply, status_of};
use crate::figure::{escaped, label};

/// What a page consists of.
pub(super) struct Page {
    /// The title of the window.
    pub(super) title: String,
    /// The entry of the menu that it belongs to: its address.
    pub(super) place: &'static str,
    /// What stands above the live part.
    pub(super) head: String,
    /// What is fetched again as long as the page is looked at.
    pub(super) live: Live,
}

/// A part of a page that may change.
pub(super) struct Live {
    /// Where it is fetched.
    pub(super) source: String,
    /// The state it shows.
    pub(super) revision: String,
    /// What it is.
    pub(super) html: String,
}

impl Live {
    /// The part alone, or nothing where it has not changed.
    pub(super) fn reply(self, query: &Query) -> Reply {
        if query.one("since") == Some(&self.revision) {
            return Reply::unchanged(self.revision);
        }
        Reply::html(self.html).with_revision(self.revision)
    }
}

impl Page {
    pub(super) fn reply(self, store: &str) -> Reply {
        let Self { title, place, head, live } = self;
        let main = format!(
            "{head}<div id=\"live\" data-source=\"{}\" data-revision=\"{}\">\n{}</div>\n",
            escaped(&live.source),
            escaped(&live.revision),
            live.html
        );
        Reply::html(frame(&title, place, &main, store))
    }
}

/// The document around the main part of a page.
pub(super) fn frame(title: &str, place: &str, main: &str, store: &str) -> String {
    let entry = |(address, word): &(&str, &str)| {
        let here = if *address == place { " aria-current=\"page\"" } else { "" };
        format!("<a href=\"{address}\"{here}>{word}</a>")
    };
    let menu: String =
        [("/", "Runs"), ("/studies", "Studies and sweeps")].iter().map(entry).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} · Mnemoscope</title>\n\
         <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/style.css\">\n\
         <script src=\"/app.js\" defer></script></head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">To the content</a>\n\
         <header><a class=\"brand\" href=\"/\">Mnemoscope</a><nav aria-label=\"Pages\">{menu}</nav>\
         <span class=\"store\" title=\"The store\">{}</span><span id=\"state\" role=\"status\"></span></header>\n\
         <main id=\"main\" tabindex=\"-1\">\n{main}</main>\n</body></html>\n",
        escaped(&label(title, 80)),
        escaped(&label(store, 60)),
    )
}

/// A refusal as a page.
pub(super) fn refused(refusal: &Refusal, store: &str) -> Reply {
    let status = status_of(refusal.kind);
    let heading = if status == StatusCode::NOT_FOUND { "Not here" } else { "That did not work" };
    let main = format!(
        "<h1>{heading}</h1>\n{}<p><a href=\"/\">All runs</a></p>\n",
        complaint(&refusal.message)
    );
    Reply::html(frame(heading, "", &main, store)).with_status(status)
}

/// A sentence about what is wrong.
pub(super) fn complaint(message: &str) -> String {
    format!("<p class=\"warning\" role=\"alert\">{}</p>\n", escaped(message))
}

/// Figures without the rule that each of them brings: the stylesheet has it once, and a page may hold no other.
///
/// No word of a record can be taken for one: there, every `<` is written as `&lt;`.
pub(super) fn without_styles(html: &str) -> String {
    let mut plain = String::with_capacity(html.len());
    let mut rest = html;
    while let Some((before, after)) = rest.split_once("<style>") {
        plain += before;
        rest = after.split_once("</style>").map_or("", |(_, after)| after);
    }
    plain + rest
}

/// A report within the dashboard: its runs can be followed.
pub(super) fn report(report: &crate::report::Report, runs: &[crate::figure::Source]) -> String {
    let ids: BTreeSet<&str> = runs.iter().map(|run| run.page.id.as_str()).collect();
    let html = without_styles(&crate::report::body(report));
    let mut cells = html.split("<td>");
    let mut linked = cells.next().unwrap_or_default().to_owned();
    for cell in cells {
        linked += "<td>";
        match cell.split_once("</td>") {
            Some((id, rest)) if ids.contains(id) => {
                linked += &format!("{}</td>{rest}", run_link(id))
            }
            _ => linked += cell,
        }
    }
    linked
}

/// How a run stands, in a colour and a word.
pub(super) fn badge(status: &str) -> String {
    let known = ["running", "interrupted", "sealed", "failed", "crashed", "damaged"];
    let class = if known.contains(&status) { status } else { "other" };
    format!("<span class=\"badge {class}\">{}</span>", escaped(status))
}

/// A link to a run, by its id.
pub(super) fn run_link(id: &str) -> String {
    let (address, shown) = (super::web::encoded(id), escaped(&label(id, 40)));
    format!("<a id=\"run-{}\" href=\"/run/{address}\"><code>{shown}</code></a>", escaped(id))
}

/// Text of a record in a cell: one line, not too long, the whole of it where the mouse points.
pub(super) fn cell(text: &str, width: usize) -> String {
    let short = label(text, width);
    if short == text {
        return escaped(text);
    }
    format!("<span title=\"{}\">{}</span>", escaped(&label(text, 400)), escaped(&short))
}
