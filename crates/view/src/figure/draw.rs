//! Figures as scenes of shapes.

use kuva::render::layout::Layout;
use kuva::render::render::{Primitive, Scene};

use super::frame::TICK_SIZE;
use super::svg::FONT_SIZE;
use super::{Figure, Plot, bars, curves, grid, layers, map, points};

/// The shapes of a figure.
pub(super) fn scene(figure: &Figure) -> Scene {
    let mut scene = match &figure.plot {
        Plot::Curves(curves) => curves::scene(curves),
        Plot::Scatter(scatter) => points::of_scatter(scatter),
        Plot::Strips(strips) => points::of_strips(strips),
        Plot::Bars(bars) => bars::scene(bars),
        Plot::Grid(grid) => grid::scene(grid),
        Plot::Map(map) => map::scene(map),
    };
    scene.font_family = Some(super::svg::FONTS.to_owned());
    // A page holds many figures, and in a page a name means one thing.
    let own = format!("{}-clip", figure.name);
    for def in &mut scene.defs {
        *def = def.replace(layers::CLIP, &own);
    }
    for shape in &mut scene.elements {
        if let Primitive::ClipStart { id, .. } = shape {
            id.clone_from(&own);
        }
    }
    scene
}

/// `baseline, seed 1, run 3f2a`.
pub(super) fn who(arm: &str, seed: Option<&str>, run: Option<&str>) -> String {
    let mut words = super::label(arm, 80);
    if let Some(seed) = seed {
        words += &format!(", seed {}", super::label(seed, 40));
    }
    if let Some(run) = run {
        words += &format!(", run {}", super::label(run, 40));
    }
    words
}

/// Sizes and sizes of letters that all figures have in common.
pub(super) fn framed(layout: Layout, width: f64, height: f64) -> Layout {
    layout
        .with_width(width)
        .with_height(height)
        .with_tick_size(TICK_SIZE)
        .with_label_size(13)
        .with_body_size(FONT_SIZE)
}
