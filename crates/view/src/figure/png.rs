//! Figures as pixels: the shapes of the SVG, filled and stroked by `tiny-skia`, letters from the same font.
//!
//! The plotting library has pixels of its own, but asks for a PNG library whose features other rooms would
//! have to be compiled for again. A scene has ten kinds of shapes, and a PNG is a compressed list of rows.

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use kuva::render::color::Color;
use kuva::render::render::{PathData, Primitive, Scene, TextAnchor};
use tiny_skia::{
    FillRule, LineCap, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, StrokeDash,
    Transform,
};
use ttf_parser::{Face, OutlineBuilder};

use super::{Figure, draw, svg};

/// The figure as a PNG image.
pub(super) fn image(figure: &Figure, scale: f32) -> Vec<u8> {
    assert!((0.1..=20.0).contains(&scale), "a scale of {scale} is not between 0.1 and 20");
    encoded(&pixels(&draw::scene(figure), scale))
}

/// What shapes are drawn on.
struct Canvas<'a> {
    pixels: Pixmap,
    face: Face<'a>,
    base: Transform,
    clip: Option<Mask>,
}

#[expect(clippy::cast_possible_truncation, reason = "pixels need no more")]
fn f(number: f64) -> f32 {
    number as f32
}

fn pixels(scene: &Scene, scale: f32) -> Pixmap {
    let size = |length: f64| {
        let length = (f(length) * scale).ceil().clamp(1.0, 20_000.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let length = length as u32;
        length
    };
    let mut pixels = Pixmap::new(size(scene.width), size(scene.height))
        .expect("a figure has a width and a height");
    pixels.fill(tiny_skia::Color::WHITE);
    let face = Face::parse(svg::FONT, 0).expect("the built-in font is one");
    let base = Transform::from_scale(scale, scale);
    let mut canvas = Canvas { pixels, face, base, clip: None };
    for shape in &scene.elements {
        canvas.draw(shape);
    }
    canvas.pixels
}

/// What a colour is painted with; nothing for no colour.
fn paint(colour: &Color, opacity: Option<f64>) -> Option<Paint<'static>> {
    let [r, g, b] = match colour {
        Color::None => return None,
        Color::Rgb(r, g, b) => [*r, *g, *b],
        // Figures name their colours by number; the library's own words are for greys of axes.
        Color::Css(_) => [0, 0, 0],
    };
    let alpha = f(opacity.unwrap_or(1.0).clamp(0.0, 1.0) * 255.0).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let alpha = alpha as u8;
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(r, g, b, alpha);
    Some(paint)
}

fn stroke(width: f64, dashes: Option<&str>) -> Stroke {
    let lengths = dashes.unwrap_or_default().split([' ', ',']);
    let lengths: Vec<f32> = lengths.filter_map(|length| length.parse().ok()).collect();
    Stroke {
        width: f(width),
        line_cap: LineCap::Butt,
        line_join: LineJoin::Round,
        dash: StrokeDash::new(lengths, 0.0),
        ..Stroke::default()
    }
}

impl Canvas<'_> {
    fn draw(&mut self, shape: &Primitive) {
        match shape {
            Primitive::Circle { cx, cy, r, fill, fill_opacity, stroke, stroke_width } => {
                let path = PathBuilder::from_circle(f(*cx), f(*cy), f(*r));
                self.both(path, fill, *fill_opacity, stroke.as_ref(), *stroke_width);
            }
            Primitive::CircleBatch { cx, cy, r, fill, fill_opacity, stroke, stroke_width } => {
                for (cx, cy) in cx.iter().zip(cy) {
                    let path = PathBuilder::from_circle(f(*cx), f(*cy), f(*r));
                    self.both(path, fill, *fill_opacity, stroke.as_ref(), *stroke_width);
                }
            }
            Primitive::Rect { x, y, width, height, fill, stroke, stroke_width, opacity } => {
                let path = rect(*x, *y, *width, *height);
                self.both(path, fill, *opacity, stroke.as_ref(), *stroke_width);
            }
            Primitive::RectBatch { x, y, w, h, fills } => {
                for ((((x, y), w), h), fill) in x.iter().zip(y).zip(w).zip(h).zip(fills) {
                    self.both(rect(*x, *y, *w, *h), fill, None, None, None);
                }
            }
            Primitive::Line { x1, y1, x2, y2, stroke, stroke_width, stroke_dasharray } => {
                self.line(&[(*x1, *y1), (*x2, *y2)], stroke, *stroke_width, stroke_dasharray);
            }
            Primitive::PolyLine { points, stroke, stroke_width, stroke_dasharray } => {
                self.line(points, stroke, *stroke_width, stroke_dasharray);
            }
            Primitive::Path(path) => self.path(path),
            Primitive::Text { x, y, content, size, anchor, rotate, color, .. } => {
                // The library's sign for a dollar that begins no formula.
                let content = content.replace("\\$", "$");
                let angle = rotate.unwrap_or(0.0);
                self.text([*x, *y, angle], &content, f64::from(*size), *anchor, color.as_ref());
            }
            Primitive::RichText { x, y, spans, size, anchor, color } => {
                let content: String = spans.iter().map(|span| span.text.as_str()).collect();
                self.text([*x, *y, 0.0], &content, f64::from(*size), *anchor, color.as_ref());
            }
            Primitive::ClipStart { x, y, width, height, .. } => {
                self.clip = Mask::new(self.pixels.width(), self.pixels.height());
                if let Some((mask, path)) = self.clip.as_mut().zip(rect(*x, *y, *width, *height)) {
                    mask.fill_path(&path, FillRule::Winding, true, self.base);
                }
            }
            Primitive::ClipEnd => self.clip = None,
            // Groups carry words to point at, which pixels have not.
            Primitive::GroupStart { .. } | Primitive::GroupEnd => {}
        }
    }

    fn both(
        &mut self,
        path: Option<Path>,
        fill: &Color,
        opacity: Option<f64>,
        edge: Option<&Color>,
        width: Option<f64>,
    ) {
        let Some(path) = path else { return };
        if let Some(paint) = paint(fill, opacity) {
            let clip = self.clip.as_ref();
            self.pixels.fill_path(&path, &paint, FillRule::Winding, self.base, clip);
        }
        if let Some((paint, width)) = edge.and_then(|edge| paint(edge, None)).zip(width) {
            let (stroke, clip) = (stroke(width, None), self.clip.as_ref());
            self.pixels.stroke_path(&path, &paint, &stroke, self.base, clip);
        }
    }

    fn line(&mut self, points: &[(f64, f64)], colour: &Color, width: f64, dash: &Option<String>) {
        let mut builder = PathBuilder::new();
        for (idx, (x, y)) in points.iter().enumerate() {
            if idx == 0 { builder.move_to(f(*x), f(*y)) } else { builder.line_to(f(*x), f(*y)) }
        }
        if let Some((path, paint)) = builder.finish().zip(paint(colour, None)) {
            let (stroke, clip) = (stroke(width, dash.as_deref()), self.clip.as_ref());
            self.pixels.stroke_path(&path, &paint, &stroke, self.base, clip);
        }
    }

    fn path(&mut self, data: &PathData) {
        let Some(path) = path_of(&data.d) else { return };
        let clip = self.clip.as_ref();
        if let Some(paint) = data.fill.as_ref().and_then(|fill| paint(fill, data.opacity)) {
            self.pixels.fill_path(&path, &paint, FillRule::Winding, self.base, clip);
        }
        if let Some(paint) = paint(&data.stroke, data.opacity).filter(|_| data.stroke_width > 0.0) {
            let stroke = stroke(data.stroke_width, data.stroke_dasharray.as_deref());
            self.pixels.stroke_path(&path, &paint, &stroke, self.base, clip);
        }
    }

    fn text(
        &mut self,
        [x, y, angle]: [f64; 3],
        content: &str,
        size: f64,
        anchor: TextAnchor,
        colour: Option<&Color>,
    ) {
        let scale = f(size) / f32::from(self.face.units_per_em());
        let glyph = |c: char| self.face.glyph_index(c).unwrap_or_default();
        let advance =
            |c: char| f32::from(self.face.glyph_hor_advance(glyph(c)).unwrap_or(0)) * scale;
        let width: f32 = content.chars().map(advance).sum();
        let mut pen = match anchor {
            TextAnchor::Start => 0.0,
            TextAnchor::Middle => -width / 2.0,
            TextAnchor::End => -width,
        };
        let mut outline = Outline { builder: PathBuilder::new(), at: 0.0, scale };
        for c in content.chars() {
            outline.at = pen;
            self.face.outline_glyph(glyph(c), &mut outline);
            pen += advance(c);
        }
        let placed = self.base.pre_translate(f(x), f(y)).pre_rotate(f(angle));
        let paint = paint(colour.unwrap_or(&Color::Rgb(0, 0, 0)), None);
        if let Some((path, paint)) = outline.builder.finish().zip(paint) {
            self.pixels.fill_path(&path, &paint, FillRule::Winding, placed, None);
        }
    }
}

fn rect(x: f64, y: f64, width: f64, height: f64) -> Option<Path> {
    Rect::from_xywh(f(x), f(y), f(width), f(height)).map(PathBuilder::from_rect)
}

/// The outlines of letters, the baseline at 0 and downwards positive.
struct Outline {
    builder: PathBuilder,
    at: f32,
    scale: f32,
}

impl Outline {
    fn place(&self, x: f32, y: f32) -> (f32, f32) {
        (self.at + x * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.builder.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.builder.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.place(x1, y1), self.place(x, y));
        self.builder.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) =
            (self.place(x1, y1), self.place(x2, y2), self.place(x, y));
        self.builder.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.builder.close();
    }
}

/// The path that SVG's commands `M`, `L`, `Q`, `C` and `Z` draw, all in absolute numbers; none if there are
/// others, which the scenes of figures do not have.
fn path_of(commands: &str) -> Option<Path> {
    let mut builder = PathBuilder::new();
    let spaced: String = commands
        .chars()
        .flat_map(|c| {
            let apart = c.is_ascii_alphabetic() && c != 'e';
            let gap = if apart || c == ',' { ' ' } else { '\0' };
            [gap, if c == ',' { ' ' } else { c }, gap]
        })
        .filter(|c| *c != '\0')
        .collect();
    let mut words = spaced.split_whitespace().peekable();
    while let Some(command) = words.next() {
        loop {
            let mut number = || words.next()?.parse::<f32>().ok();
            match command {
                "M" => builder.move_to(number()?, number()?),
                "L" => builder.line_to(number()?, number()?),
                "Q" => builder.quad_to(number()?, number()?, number()?, number()?),
                "C" => {
                    let points = [number()?, number()?, number()?, number()?];
                    let [x1, y1, x2, y2] = points;
                    builder.cubic_to(x1, y1, x2, y2, number()?, number()?);
                }
                "Z" | "z" => builder.close(),
                _ => return None,
            }
            // A command that is followed by more numbers is meant again.
            if words.peek().is_none_or(|word| word.parse::<f32>().is_err()) {
                break;
            }
        }
    }
    builder.finish()
}

/// The pixels as a PNG without transparency, 8 bits a colour.
fn encoded(pixels: &Pixmap) -> Vec<u8> {
    let [width, height] = [pixels.width(), pixels.height()];
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    let row_bytes = width as usize * 4;
    let mut row = Vec::with_capacity(1 + width as usize * 3);
    for rgba in pixels.data().chunks(row_bytes) {
        row.clear();
        // Each row begins with its filter; none does well on flat colours.
        row.push(0);
        for pixel in rgba.chunks(4) {
            row.extend_from_slice(&pixel[..3]);
        }
        packed.write_all(&row).expect("memory takes every byte");
    }
    let packed = packed.finish().expect("memory takes every byte");
    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    // 8 bits, red, green and blue, the only compression, filters by row, not interlaced.
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", &header), (b"IDAT", &packed), (b"IEND", &Vec::new())] {
        push_chunk(&mut png, *kind, data);
    }
    png
}

fn push_chunk(png: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).expect("an image of less than 4 GiB");
    png.extend_from_slice(&length.to_be_bytes());
    png.extend_from_slice(&kind);
    png.extend_from_slice(data);
    let mut sum = Crc::new();
    sum.update(&kind);
    sum.update(data);
    png.extend_from_slice(&sum.sum().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_svg() {
        let bounds = path_of("M10,20 L30 20 30 50Z").unwrap().bounds();
        assert_eq!((bounds.left(), bounds.top(), bounds.right()), (10.0, 20.0, 30.0));
        assert!((bounds.bottom() - 50.0).abs() < 1e-6);
        assert!(path_of("M 0 0 C 1 1 2 2 3e1 3").is_some());
        assert!(path_of("M 0 0 A 1 1 0 0 0 2 2").is_none());
        assert!(path_of("M 0").is_none());
    }

    #[test]
    fn a_png_of_two_pixels_is_what_the_standard_says() {
        let mut pixels = Pixmap::new(2, 1).unwrap();
        pixels.fill(tiny_skia::Color::from_rgba8(255, 0, 0, 255));
        let png = encoded(&pixels);
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(&png[12..24], b"IHDR\0\0\0\x02\0\0\0\x01");
        // The sum of an empty last chunk is known.
        assert_eq!(&png[png.len() - 8..], b"IEND\xae\x42\x60\x82");
        let start = png.windows(4).position(|it| it == b"IDAT").unwrap() + 4;
        let mut unpacked = Vec::new();
        let mut decoder = flate2::read::ZlibDecoder::new(&png[start..]);
        std::io::Read::read_to_end(&mut decoder, &mut unpacked).unwrap();
        assert_eq!(unpacked, [0, 255, 0, 0, 255, 0, 0]);
    }
}
