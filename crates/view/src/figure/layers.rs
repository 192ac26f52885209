//! A frame with axes, and in it the marks, lines and bands of each arm as a group of their own.
//!
//! `kuva` lays the frame out. What is drawn in it is ours, for three reasons: a page has to know which shapes
//! belong to which arm to hide them, marks have to keep their size when lines are stretched by a zoom, and a legend
//! shows dash and mark together. Names of classes and `data-` attributes are what the script of a page goes by.

use std::fmt::Write as _;

use kuva::plot::BandPlot;
use kuva::render::color::Color;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot as Drawn;
use kuva::render::render::{Primitive, Scene, TextAnchor, render_multiple};

use super::bars::bar_shape;
use super::frame::{GREY, LogAxis, Look, NAME_WIDTH, TICK_SIZE, shown, text_width};
use super::svg::FONT_SIZE;

/// Width of what is drawn.
pub(super) const WIDTH: f64 = 620.0;
/// Height of a line of a legend.
const LEGEND_LINE: f64 = 20.0;

/// An axis: from where to where, and what stands at its ticks.
#[derive(Clone, Debug)]
pub(super) enum Axis {
    /// Numbers; whole ones have their digits in groups.
    Plain([f64; 2]),
    /// Powers of ten, and zero.
    Log(LogAxis),
    /// Names at whole numbers; a zoom leaves them alone.
    Names([f64; 2]),
}

impl Axis {
    pub(super) fn range(&self) -> [f64; 2] {
        match self {
            Self::Plain(range) | Self::Names(range) => *range,
            Self::Log(axis) => axis.range(),
        }
    }

    /// Where a number stands.
    pub(super) fn place(&self, number: f64) -> f64 {
        match self {
            Self::Plain(_) | Self::Names(_) => number,
            Self::Log(axis) => axis.place(number),
        }
    }

    /// What the script has to know: kind, ends, and where zero stands.
    fn attribute(&self) -> String {
        let [low, high] = self.range();
        match self {
            Self::Plain(_) => format!("plain {low:.6} {high:.6}"),
            Self::Names(_) => format!("names {low:.6} {high:.6}"),
            Self::Log(axis) => {
                let zero = axis.zero().map_or_else(|| "none".to_owned(), |zero| zero.to_string());
                format!("log {low:.6} {high:.6} {} {zero}", axis.lowest())
            }
        }
    }
}

/// The rectangle inside the axes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    x: [f64; 2],
    y: [f64; 2],
}

impl Area {
    /// Where a place of the axes is.
    pub(super) fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |at: f64, [low, high]: [f64; 2]| (at - low) / (high - low);
        let left = self.left + self.width * share(x, self.x);
        (left, self.top + self.height * (1.0 - share(y, self.y)))
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }
}

/// Shapes of one arm, in places of the axes.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) arm: usize,
    /// Lines and bands, which a zoom stretches.
    pub(super) flow: Vec<Flow>,
    /// Marks, which a zoom moves.
    pub(super) dots: Vec<Dot>,
}

/// What a zoom stretches.
pub(super) enum Flow {
    Line { points: Vec<(f64, f64)>, colour: String, width: f64, dash: Option<&'static str> },
    Band { edge: Vec<(f64, f64)>, colour: String, opacity: f64 },
}

/// A mark, and what is said of it.
pub(super) struct Dot {
    pub(super) at: (f64, f64),
    pub(super) size: f64,
    pub(super) look: Look,
    pub(super) colour: String,
    pub(super) hollow: bool,
    pub(super) tip: String,
}

/// What there is to draw and around what.
pub(super) struct Chart {
    pub(super) layout: Layout,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) layers: Vec<Layer>,
    /// Names of the arms a legend tells apart; none where there is nothing to tell apart.
    pub(super) legend: Vec<String>,
    /// What the legend shows of an arm.
    pub(super) swatch: Swatch,
    /// A last line of the legend.
    pub(super) note: Option<String>,
}

impl Chart {
    pub(super) fn scene(self) -> Scene {
        let Self { layout, x: x_axis, y: y_axis, layers, legend: names, swatch, note } = self;
        // The frame needs something that is drawn in it.
        let nothing = Drawn::Band(BandPlot::new([0.0; 0], [0.0; 0], [0.0; 0]));
        let mut frame = render_multiple(vec![nothing], layout);
        let elements = std::mem::take(&mut frame.elements);
        let is_clip = |shape: &Primitive| matches!(shape, Primitive::ClipStart { .. });
        let from = elements.iter().position(is_clip).expect("a frame has an inside");
        let mut shapes = elements.into_iter();
        let before: Vec<Primitive> = shapes.by_ref().take(from).collect();
        let Some(Primitive::ClipStart { x: left, y: top, width, height, id }) = shapes.next()
        else {
            unreachable!("looked for above")
        };
        let area = Area { left, top, width, height, x: x_axis.range(), y: y_axis.range() };
        let mut scene = frame;
        axes(&mut scene, before, &area, [&x_axis, &y_axis]);
        for def in &mut scene.defs {
            *def = def.replace(&id, CLIP);
        }
        scene.add(Primitive::ClipStart { x: left, y: top, width, height, id: CLIP.to_owned() });
        let about = format!(
            "class=\"area\" data-area=\"{left:.2} {top:.2} {width:.2} {height:.2}\" data-x=\"{}\" data-y=\"{}\"",
            x_axis.attribute(),
            y_axis.attribute()
        );
        open(&mut scene, &about);
        // Lines that divide an axis lie beneath what is drawn.
        open(&mut scene, "class=\"flow\"");
        for shape in shapes.take_while(|shape| !matches!(shape, Primitive::ClipEnd)) {
            scene.add(shape);
        }
        scene.add(Primitive::GroupEnd);
        for layer in layers {
            draw_layer(&mut scene, &area, layer);
        }
        scene.add(Primitive::GroupEnd);
        scene.add(Primitive::ClipEnd);
        let (names, note) = (names.as_slice(), note.as_deref());
        legend(&mut scene, [left, top, width, height], &Legend { names, swatch, note });
        scene
    }
}

/// What the clip is called until the figure's name is known.
pub(super) const CLIP: &str = "figure-clip";

/// The axes, each a group, so that a zoom can put others in their place.
fn axes(scene: &mut Scene, before: Vec<Primitive>, area: &Area, [x_axis, y_axis]: [&Axis; 2]) {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for shape in before {
        match &shape {
            // Lines that stand belong to the axis that lies.
            Primitive::Line { x1, x2, .. } if (x1 - x2).abs() < 1e-9 => x.push(shape),
            Primitive::Line { .. } => y.push(shape),
            Primitive::Text { size, y: at, .. } if *size == TICK_SIZE => {
                if *at > area.bottom() + 4.0 { x.push(shape) } else { y.push(shape) }
            }
            _ => scene.add(shape),
        }
    }
    for (at, name) in between_powers(x_axis) {
        let (left, _) = area.at((at, area.y[0]));
        x.insert(0, rule([left, area.top, left, area.bottom()], "#e8e8e8"));
        x.push(rule([left, area.bottom(), left, area.bottom() + 3.0], "#000000"));
        let y = label_of(&x).unwrap_or(area.bottom() + 15.0);
        x.push(words(left, y, name, TextAnchor::Middle, TICK_SIZE));
    }
    for (at, name) in between_powers(y_axis) {
        let (_, top) = area.at((area.x[0], at));
        y.insert(0, rule([area.left, top, area.left + area.width, top], "#e8e8e8"));
        y.push(rule([area.left - 3.0, top, area.left, top], "#000000"));
        y.push(words(area.left - 8.0, top + 4.0, name, TextAnchor::End, TICK_SIZE));
    }
    for (class, shapes) in [("class=\"axis-x\"", x), ("class=\"axis-y\"", y)] {
        open(scene, class);
        for shape in shapes {
            scene.add(shape);
        }
        scene.add(Primitive::GroupEnd);
    }
}

/// Twos and fives between the powers of ten of an axis that has few of them.
fn between_powers(axis: &Axis) -> Vec<(f64, String)> {
    match axis {
        Axis::Log(axis) => axis.between_powers(),
        Axis::Plain(_) | Axis::Names(_) => Vec::new(),
    }
}

/// How deep the words at the ticks stand.
fn label_of(shapes: &[Primitive]) -> Option<f64> {
    shapes.iter().find_map(|shape| match shape {
        Primitive::Text { y, .. } => Some(*y),
        _ => None,
    })
}

fn rule([x1, y1, x2, y2]: [f64; 4], colour: &str) -> Primitive {
    let (stroke, stroke_width, stroke_dasharray) = (Color::from(colour), 1.0, None);
    Primitive::Line { x1, y1, x2, y2, stroke, stroke_width, stroke_dasharray }
}

pub(super) fn open(scene: &mut Scene, attributes: &str) {
    let extra_attrs = Some(attributes.to_owned());
    scene.add(Primitive::GroupStart { transform: None, title: None, extra_attrs });
}

fn draw_layer(scene: &mut Scene, area: &Area, layer: Layer) {
    open(scene, &format!("class=\"arm\" data-arm=\"{}\"", layer.arm));
    if !layer.flow.is_empty() {
        open(scene, "class=\"flow\"");
        for flow in layer.flow {
            scene.add(flow_shape(area, flow));
        }
        scene.add(Primitive::GroupEnd);
    }
    for dot in layer.dots {
        let (x, y) = area.at(dot.at);
        tip(scene, (x, y), dot.tip);
        scene.add(dot.look.shape((x, y), dot.size, &dot.colour, dot.hollow));
        scene.add(Primitive::GroupEnd);
    }
    scene.add(Primitive::GroupEnd);
}

/// Opens a group that says something where the mouse points, about the place it stands at.
pub(super) fn tip(scene: &mut Scene, (x, y): (f64, f64), words: String) {
    let extra_attrs = Some(format!("class=\"tt\" data-at=\"{x:.1} {y:.1}\""));
    scene.add(Primitive::GroupStart { transform: None, title: Some(words), extra_attrs });
}

fn flow_shape(area: &Area, flow: Flow) -> Primitive {
    match flow {
        Flow::Line { points, colour, width, dash } => Primitive::PolyLine {
            points: points.into_iter().map(|at| area.at(at)).collect(),
            stroke: Color::from(colour.as_str()),
            stroke_width: width,
            stroke_dasharray: dash.map(str::to_owned),
        },
        Flow::Band { edge, colour, opacity } => {
            let mut d = String::with_capacity(edge.len() * 14);
            for (idx, at) in edge.into_iter().enumerate() {
                let (x, y) = area.at(at);
                let command = if idx == 0 { 'M' } else { 'L' };
                // Writing to a string cannot fail.
                write!(d, "{command} {x:.2} {y:.2} ").unwrap_or_default();
            }
            d.push('Z');
            filled(d, &colour, Some(opacity))
        }
    }
}

/// A path that is filled and not stroked.
pub(super) fn filled(d: String, colour: &str, opacity: Option<f64>) -> Primitive {
    Primitive::Path(Box::new(kuva::render::render::PathData {
        d,
        fill: Some(Color::from(colour)),
        stroke: Color::None,
        stroke_width: 0.0,
        opacity,
        stroke_dasharray: None,
    }))
}

/// What a legend shows of an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swatch {
    /// Its dash and its mark.
    Line,
    /// Its mark.
    Mark,
    /// Its bar.
    Bar,
}

/// What stands beneath a frame.
pub(super) struct Legend<'a> {
    pub(super) names: &'a [String],
    pub(super) swatch: Swatch,
    pub(super) note: Option<&'a str>,
}

/// Names beneath the frame, as many beside each other as there is room for; the scene grows by them.
pub(super) fn legend(scene: &mut Scene, [left, _, room, _]: [f64; 4], legend: &Legend<'_>) {
    let Legend { names, swatch, note } = *legend;
    let size = f64::from(FONT_SIZE);
    let names: Vec<String> = names.iter().map(|name| shown(name, NAME_WIDTH)).collect();
    let sample = match swatch {
        Swatch::Line => 38.0,
        Swatch::Mark => 14.0,
        Swatch::Bar => 22.0,
    };
    let widest = names.iter().map(|name| text_width(name, size)).fold(0.0, f64::max);
    let column = sample + 6.0 + widest + 18.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    let n_across = ((room + 18.0) / column).clamp(1.0, 99.0) as usize;
    let n_across = n_across.min(names.len().max(1));
    let top = scene.height + 12.0;
    for (idx, name) in names.iter().enumerate() {
        let x = left + column * (idx % n_across) as f64;
        let y = top + LEGEND_LINE * (idx / n_across) as f64;
        open(scene, &format!("class=\"legend\" data-arm=\"{idx}\""));
        // What is clicked on is the whole line, not the letters alone.
        scene.add(blank([x - 4.0, y - 10.0, column - 10.0, LEGEND_LINE]));
        let look = Look::of(idx);
        if swatch == Swatch::Line {
            scene.add(Primitive::PolyLine {
                points: vec![(x, y), (x + sample, y)],
                stroke: Color::from(look.colour),
                stroke_width: 1.8,
                stroke_dasharray: look.dash.map(str::to_owned),
            });
        }
        match swatch {
            Swatch::Bar => bar_shape(scene, idx, [x, y - 6.0, sample, 12.0]),
            Swatch::Line | Swatch::Mark => {
                scene.add(look.shape((x + sample / 2.0, y), 4.0, look.colour, false));
            }
        }
        scene.add(words(x + sample + 6.0, y + 4.0, name.clone(), TextAnchor::Start, FONT_SIZE));
        scene.add(Primitive::GroupEnd);
    }
    let n_rows = names.len().div_ceil(n_across);
    let mut bottom = top + LEGEND_LINE * n_rows as f64;
    if let Some(note) = note {
        let mut note = words(left, bottom + 4.0, note.to_owned(), TextAnchor::Start, TICK_SIZE);
        if let Primitive::Text { color, .. } = &mut note {
            *color = Some(Color::from(GREY));
        }
        scene.add(note);
        bottom += LEGEND_LINE;
    }
    scene.height = bottom;
}

/// A rectangle that is there to be clicked on.
fn blank([x, y, width, height]: [f64; 4]) -> Primitive {
    let fill = Color::from("#ffffff");
    let (stroke, stroke_width, opacity) = (None, None, Some(0.0));
    Primitive::Rect { x, y, width, height, fill, stroke, stroke_width, opacity }
}

/// Words at a place.
pub(super) fn words(x: f64, y: f64, content: String, anchor: TextAnchor, size: u32) -> Primitive {
    let color = Some(Color::from("#000000"));
    Primitive::Text { x, y, content, size, anchor, rotate: None, bold: false, color }
}
