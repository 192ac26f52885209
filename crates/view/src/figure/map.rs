//! Attention as a figure: made from the replay of a glitch, drawn panel by panel.

use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::frame::shown;
use super::layers;
use super::{Figure, Kind, Map, Mark, Panel, Plot, label};
use crate::glitch::{Language, Picture};
use crate::number;

/// Width of all columns together, at most.
const WIDTH: f64 = 600.0;
/// Width of panels beside each other, at most.
const PAGE: f64 = 1000.0;
/// Sides of a cell, the smallest and the largest.
const CELL: [f64; 2] = [3.0, 18.0];
/// Vermilion: what frames the largest share, and names rows that are answered wrong.
const WRONG: Color = Color::Rgb(0xd5, 0x5e, 0x00);
/// Size of the words of marks.
const MARK_SIZE: u32 = 10;
/// Columns from which tokens no longer stand beneath each of them.
const MOST_TOKENS: usize = 48;

/// Where every head looked from the place of a glitch; none of a model without attention.
#[must_use]
pub fn attention_of(picture: &Picture) -> Option<Figure> {
    let n_keys = picture.attention.iter().map(|head| head.weights.len()).max()?;
    let keys = (0..n_keys)
        .map(|pos| label(picture.words.get(pos).map_or("?", String::as_str), 8))
        .collect();
    let word = |token: usize| label(picture.vocab.get(token).map_or("?", String::as_str), 12);
    let mut panel = Panel { name: String::new(), rows: Vec::new(), shares: Vec::new() };
    for head in &picture.attention {
        panel.rows.push(format!("{}.{}", head.layer, head.head));
        panel.shares.push(head.weights.iter().map(|weight| f64::from(*weight)).collect());
    }
    let mut marks = vec![Mark { key: picture.query_pos, word: "asked".to_owned() }];
    if picture.write_pos < picture.query_pos {
        marks.insert(0, Mark { key: picture.write_pos, word: "written".to_owned() });
    }
    Some(Figure {
        kind: Kind::Attention,
        name: format!("attention-{}", super::plain(&picture.run)),
        title: format!("Where each head looked, {} example {}", picture.set, picture.index),
        caption: format!(
            "Asked for {}, the model said {}. A row a head, named by layer and head, a column a token up to the one \
             where the model was asked. The darker, the larger the share of attention; black is all of it. Framed: \
             the largest share of the row.",
            word(picture.expected),
            word(picture.predicted)
        ),
        plot: Plot::Map(Map {
            run: picture.run.clone(),
            keys,
            row_axis: "head".to_owned(),
            panels: vec![panel],
            marks,
            wrong_rows: Vec::new(),
        }),
    })
}

/// Where a string of flip-flop or its automaton was last written and is asked, and the rows at which it is answered
/// wrong; nothing of languages that do not say what is right.
///
/// # Arguments
///
/// - `characters`: the string, an instruction or symbol each.
/// - `answers`: what the model says after each.
///
/// # Example
///
/// ```
/// use mnemoscope_view::{figure::marks_of, glitch::Language};
///
/// let [string, answers] = ["w1i0r1", "00000x"].map(|it| it.chars().map(String::from).collect::<Vec<_>>());
/// let (marks, wrong_rows) = marks_of(Language::FlipFlop, &string, &answers);
/// assert_eq!((marks[0].key, marks[1].key), (0, 4));
/// assert_eq!(wrong_rows, [4]);
/// ```
#[must_use]
pub fn marks_of(
    language: Language,
    characters: &[String],
    answers: &[String],
) -> (Vec<Mark>, Vec<usize>) {
    let (mut written, mut last, mut wrong) = (None, None, Vec::new());
    for (idx, (character, answer)) in characters.iter().zip(answers).enumerate() {
        let next = characters.get(idx + 1);
        match (language, character.as_str()) {
            (Language::FlipFlop, "w") => written = next.map(|symbol| (idx, symbol)),
            (Language::FlipFlop, "r") => {
                if let Some((write, symbol)) = written {
                    last = Some((write, idx));
                    wrong.extend((answer != symbol).then_some(idx));
                }
            }
            (Language::Automaton, word) => {
                if word != "-" {
                    written = Some((idx, character));
                }
                wrong.extend(written.filter(|(_, state)| answer != *state).map(|_| idx));
            }
            _ => {}
        }
    }
    let mark = |key: usize, word: &str| Mark { key, word: word.to_owned() };
    let marks = last.map(|(write, read)| vec![mark(write, "written"), mark(read, "asked")]);
    (marks.unwrap_or_default(), wrong)
}

/// Where panels and cells stand.
#[derive(Clone, Copy)]
struct Grid {
    cell: [f64; 2],
    left: f64,
    margin: f64,
    top: f64,
    has_tokens: bool,
}

impl Grid {
    fn of(map: &Map) -> Self {
        let n_keys = map.keys.len().max(1);
        let width = (WIDTH / n_keys as f64).clamp(CELL[0], CELL[1]);
        let longest =
            map.panels.iter().flat_map(|panel| &panel.rows).map(|row| row.chars().count());
        let sign = if map.wrong_rows.is_empty() { 0 } else { 2 };
        let longest = (longest.max().unwrap_or(1) + sign) as f64;
        let square = map.panels.iter().all(|panel| panel.rows.len() == n_keys);
        Self {
            cell: [width, if square { width } else { 16.0 }],
            left: 30.0 + 7.0 * longest,
            margin: 30.0 + 7.0 * longest,
            top: 26.0,
            has_tokens: n_keys <= MOST_TOKENS,
        }
    }

    fn panel_height(&self, panel: &Panel) -> f64 {
        let name = if panel.name.is_empty() { 0.0 } else { 20.0 };
        name + self.cell[1] * panel.rows.len() as f64 + 46.0
    }
}

pub(super) fn scene(map: &Map) -> Scene {
    let grid = Grid::of(map);
    let width = grid.left + grid.cell[0] * map.keys.len() as f64 + 24.0;
    // As many panels beside each other as a page has room for.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 8")]
    let n_across = (PAGE / width).clamp(1.0, 8.0) as usize;
    let n_across = n_across.min(map.panels.len().max(1));
    let height_of = |row: &[Panel]| row.iter().map(|it| grid.panel_height(it)).fold(0.0, f64::max);
    let height: f64 = map.panels.chunks(n_across).map(height_of).sum();
    let mut scene = Scene::new((width * n_across as f64).max(320.0), grid.top + height + 6.0);
    let mut top = grid.top;
    for row in map.panels.chunks(n_across) {
        for (column, panel) in row.iter().enumerate() {
            let left = width * column as f64;
            draw_panel(&mut scene, map, panel, &Grid { left: grid.left + left, ..grid }, top);
        }
        top += height_of(row);
    }
    scene
}

fn draw_panel(scene: &mut Scene, map: &Map, panel: &Panel, grid: &Grid, mut top: f64) {
    if !panel.name.is_empty() {
        text(scene, grid.left, top + 4.0, shown(&panel.name, 60), TextAnchor::Start, 12);
        top += 20.0;
    }
    let [cell_width, cell_height] = grid.cell;
    let x = |key: usize| grid.left + cell_width * key as f64;
    for (idx, (name, shares)) in panel.rows.iter().zip(&panel.shares).enumerate() {
        let y = top + cell_height * idx as f64;
        let is_wrong = map.wrong_rows.contains(&idx);
        if cell_height >= 9.0 {
            let (at, middle) = (grid.left - 6.0, y + cell_height / 2.0 + 4.0);
            let name = shown(name, 12);
            let name = if is_wrong { format!("× {name}") } else { name };
            text(scene, at, middle, name, TextAnchor::End, 11);
            if let (true, Some(Primitive::Text { color, bold, .. })) =
                (is_wrong, scene.elements.last_mut())
            {
                (*color, *bold) = (Some(WRONG), true);
            }
        }
        let largest = shares.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        for (key, share) in shares.iter().enumerate().take(map.keys.len()) {
            let is_largest = largest.is_some_and(|(at, _)| at == key);
            draw_cell(
                scene,
                map,
                [&(if is_wrong { format!("{name}, wrong") } else { name.clone() }), &panel.name],
                (key, *share),
                is_largest,
                [x(key), y, cell_width, cell_height],
            );
        }
    }
    let bottom = top + cell_height * panel.rows.len() as f64;
    outline(scene, grid.left, top, x(map.keys.len()) - grid.left, bottom - top);
    if grid.has_tokens {
        for (key, token) in map.keys.iter().enumerate() {
            let token = shown(token, if cell_width > 14.0 { 2 } else { 1 });
            text(scene, x(key) + cell_width / 2.0, bottom + 13.0, token, TextAnchor::Middle, 10);
        }
    } else {
        for key in (0..map.keys.len()).step_by(map.keys.len().div_ceil(8).next_multiple_of(10)) {
            text(
                scene,
                x(key) + cell_width / 2.0,
                bottom + 13.0,
                key.to_string(),
                TextAnchor::Middle,
                10,
            );
        }
    }
    draw_marks(scene, map, &|key| x(key) + cell_width / 2.0, bottom);
    text(
        scene,
        grid.left - grid.margin + 12.0,
        (top + bottom) / 2.0,
        shown(&map.row_axis, 20),
        TextAnchor::Middle,
        12,
    );
    if let Some(Primitive::Text { rotate, .. }) = scene.elements.last_mut() {
        *rotate = Some(-90.0);
    }
}

fn draw_cell(
    scene: &mut Scene,
    map: &Map,
    [row, panel]: [&String; 2],
    (key, share): (usize, f64),
    is_largest: bool,
    [x, y, width, height]: [f64; 4],
) {
    // A page of long sequences needs no shape where there is nothing to see.
    if share < 5e-3 && !is_largest {
        return;
    }
    let token = label(map.keys.get(key).map_or("", String::as_str), 20);
    let [row, panel] = [row, panel].map(|name| label(name, 40));
    let panel = if panel.is_empty() { String::new() } else { format!("{panel}, ") };
    let title = format!(
        "run {}, {panel}{} {row}\nposition {key}, token {token}: {}",
        label(&map.run, 40),
        map.row_axis,
        number::rate(share)
    );
    layers::tip(scene, (x + width / 2.0, y + height / 2.0), title);
    // Small shares are seen and large ones told apart if grey follows the root.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 255"
    )]
    let grey = (255.0 * (1.0 - share.clamp(0.0, 1.0).sqrt())).round() as u8;
    let (stroke, stroke_width) = match is_largest {
        true => (Some(WRONG), Some(1.4)),
        false => (None, None),
    };
    let fill = Color::Rgb(grey, grey, grey);
    scene.add(Primitive::Rect { x, y, width, height, fill, stroke, stroke_width, opacity: None });
    scene.add(Primitive::GroupEnd);
}

/// Every mark; words of marks that stand close together go away from each other.
fn draw_marks(scene: &mut Scene, map: &Map, place: &dyn Fn(usize) -> f64, bottom: f64) {
    let room = f64::from(MARK_SIZE) * 5.0;
    for (idx, mark) in map.marks.iter().enumerate() {
        let at = place(mark.key);
        let is_near =
            |other: Option<&Mark>| other.is_some_and(|other| (place(other.key) - at).abs() < room);
        let before = idx.checked_sub(1).and_then(|idx| map.marks.get(idx));
        let anchor = match (is_near(map.marks.get(idx + 1)), is_near(before)) {
            (true, false) => TextAnchor::End,
            (false, true) => TextAnchor::Start,
            _ => TextAnchor::Middle,
        };
        draw_mark(scene, mark, (at, bottom), anchor);
    }
}

/// A triangle beneath a column, and its word.
fn draw_mark(scene: &mut Scene, mark: &Mark, (x, bottom): (f64, f64), anchor: TextAnchor) {
    let tip = bottom + 17.0;
    let d = format!(
        "M {x:.1} {tip:.1} L {:.1} {:.1} L {:.1} {:.1} Z",
        x - 4.0,
        tip + 7.0,
        x + 4.0,
        tip + 7.0
    );
    let path = kuva::render::render::PathData {
        d,
        fill: Some(Color::Rgb(0, 0x72, 0xb2)),
        stroke: Color::None,
        stroke_width: 0.0,
        opacity: None,
        stroke_dasharray: None,
    };
    scene.add(Primitive::Path(Box::new(path)));
    let aside = match anchor {
        TextAnchor::Start => -4.0,
        TextAnchor::Middle => 0.0,
        TextAnchor::End => 4.0,
    };
    text(scene, x + aside, tip + 18.0, shown(&mark.word, 16), anchor, MARK_SIZE);
}

fn outline(scene: &mut Scene, x: f64, y: f64, width: f64, height: f64) {
    let (fill, stroke) = (Color::None, Some(Color::Rgb(0x76, 0x76, 0x76)));
    let stroke_width = Some(0.8);
    scene.add(Primitive::Rect { x, y, width, height, fill, stroke, stroke_width, opacity: None });
}

fn text(scene: &mut Scene, x: f64, y: f64, content: String, anchor: TextAnchor, size: u32) {
    let color = Some(Color::Rgb(0, 0, 0));
    scene.add(Primitive::Text { x, y, content, size, anchor, rotate: None, bold: false, color });
}
