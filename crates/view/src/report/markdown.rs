//! The report as Markdown.

use super::{Report, mark_word, tally};
use crate::figure::Figure;
use crate::table::Table;

pub(super) fn document(report: &Report, folder: &str) -> String {
    let mut page = format!("# {}\n", line(&report.title));
    if let Some(question) = &report.question {
        page += &format!("\n{}\n", line(question));
    }
    for warning in &report.warnings {
        page += &format!("\n> {}\n", line(warning));
    }
    if !report.verdicts.is_empty() {
        page += &format!("\n## Claims\n\n{}\n", tally(&report.verdicts));
        page += "\n| verdict | claim | expected | measured |\n|---|---|---|---|\n";
        for verdict in &report.verdicts {
            let cells = [&verdict.claim, &verdict.expected, &verdict.measured].map(|it| line(it));
            page += &format!("| {} | {} |\n", mark_word(verdict.mark), cells.join(" | "));
        }
    }
    if !report.figures.is_empty() {
        page += "\n## Figures\n";
        page += &report.figures.iter().map(|it| figure(it, folder)).collect::<String>();
    }
    page += "\n## Numbers\n";
    for (heading, table) in &report.tables {
        page += &format!("\n### {}\n\n{}", line(heading), rows(table));
    }
    if !report.glitches.is_empty() {
        page += "\n## Glitches worth looking at\n";
        for glitch in &report.glitches {
            page += &format!("\n### {}\n\n{}", line(&glitch.title), fenced("", &glitch.page));
            page += &glitch.attention.iter().map(|it| figure(it, folder)).collect::<String>();
        }
    }
    page + &origin(report)
}

fn origin(report: &Report) -> String {
    let mut page = "\n## Where this comes from\n\n".to_owned();
    for (name, words) in &report.facts {
        page += &format!("- {name}: {}\n", line(words));
    }
    if let Some(again) = &report.again {
        page += &format!("\nTo make these runs again:\n\n{}", fenced("", again));
    }
    if let Some(spec) = &report.spec {
        page += &format!("\nThe spec:\n\n{}", fenced("toml", spec));
    }
    for (arm, plan) in &report.plans {
        page +=
            &format!("\nThe plan of {}:\n\n{}", line(arm), fenced("json", &format!("{plan:#}")));
    }
    page
}

fn figure(figure: &Figure, folder: &str) -> String {
    format!(
        "\n![{}]({folder}/{}.svg)\n\n**{}.** {}\n",
        line(&figure.title),
        figure.name,
        line(&figure.title),
        line(&figure.caption)
    )
}

fn rows(table: &Table) -> String {
    let headings: Vec<String> = table.headings().map(|(name, _)| line(name)).collect();
    let rules: Vec<&str> =
        table.headings().map(|(_, is_number)| if is_number { "---:" } else { "---" }).collect();
    let mut page = format!("| {} |\n| {} |\n", headings.join(" | "), rules.join(" | "));
    for row in table.rows() {
        let cells: Vec<String> = row.iter().map(|cell| line(cell)).collect();
        page += &format!("| {} |\n", cells.join(" | "));
    }
    page
}

/// Text on one line in which nothing is markup.
fn line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '$' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            '&' => safe += "&amp;",
            '\n' | '\t' => safe.push(' '),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// Text as it is, between fences longer than any inside it.
fn fenced(language: &str, text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    let seen = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    let text: String = text.trim_end().chars().map(seen).collect();
    format!("{fence}{language}\n{text}\n{fence}\n")
}
