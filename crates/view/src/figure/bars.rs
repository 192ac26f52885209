//! Histograms: how many fall into each bin, arm beside arm.

use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::Bars;
use super::frame::{Look, TICK_SIZE, shown, text_width};
use super::layers::{Legend, Swatch, WIDTH, legend, open, tip, words};
use crate::number;

const LEFT: f64 = 62.0;
const TOP: f64 = 16.0;
const HEIGHT: f64 = 240.0;
/// Bars at most, in all: beyond it they would be thinner than the gaps between them.
const NARROWEST: f64 = 2.0;

pub(super) fn scene(bars: &Bars) -> Scene {
    let width =
        WIDTH.max(LEFT + 20.0 + NARROWEST * (bars.bins.len() * (bars.arms.len() + 1)) as f64);
    let area = [LEFT, TOP, width - LEFT - 16.0, HEIGHT];
    let highest = bars.arms.iter().flat_map(|arm| &arm.bars).map(|bar| bar.n).max().unwrap_or(0);
    let step = tick_step(highest);
    let top = step * highest.div_ceil(step).max(1);
    let mut scene = Scene::new(width, TOP + HEIGHT + 62.0);
    axes(&mut scene, bars, area, step, top);
    let slot = area[2] / bars.bins.len().max(1) as f64;
    let each = slot * 0.84 / bars.arms.len().max(1) as f64;
    for (arm_idx, arm) in bars.arms.iter().enumerate() {
        open(&mut scene, &format!("class=\"arm\" data-arm=\"{arm_idx}\""));
        for (idx, bar) in arm.bars.iter().enumerate().filter(|(_, bar)| bar.n > 0) {
            let x = LEFT + slot * (idx as f64 + 0.08) + each * arm_idx as f64;
            let height = HEIGHT * number::to_f64(bar.n) / number::to_f64(top);
            let y = TOP + HEIGHT - height;
            let said = format!(
                "{}, {}\n{} of {}: {} {}\n{}",
                super::label(&arm.arm, 80),
                super::label(&bars.bins[idx], 40),
                number::count(bar.n),
                number::count(arm.n),
                number::rate(bar.share.share),
                number::interval(bar.share.interval),
                runs_of(&bar.runs)
            );
            tip(&mut scene, (x + each / 2.0, y), said);
            bar_shape(&mut scene, arm_idx, [x, y, (each - 0.6).max(0.6), height]);
            scene.add(Primitive::GroupEnd);
        }
        scene.add(Primitive::GroupEnd);
    }
    let names: Vec<String> = bars.arms.iter().map(|arm| arm.arm.clone()).collect();
    let names = if names.len() > 1 { names } else { Vec::new() };
    legend(&mut scene, area, &Legend { names: &names, swatch: Swatch::Bar, note: None });
    scene
}

/// A bar, hatched differently from arm to arm, so that a grey print tells them apart.
pub(super) fn bar_shape(scene: &mut Scene, arm: usize, [x, y, width, height]: [f64; 4]) {
    let look = Look::of(arm);
    let colour = || Color::from(look.colour);
    let (stroke, stroke_width) = (Some(colour()), Some(0.8));
    let fill = if arm % 4 == 3 { Color::from("#ffffff") } else { colour() };
    scene.add(Primitive::Rect { x, y, width, height, fill, stroke, stroke_width, opacity: None });
    let every = [0.0, 7.0, 3.5, 3.5][arm % 4];
    if every == 0.0 || width < 2.0 {
        return;
    }
    let stroke = || if arm % 4 == 3 { colour() } else { Color::from("#ffffff") };
    let mut at = y + height - every;
    while at > y {
        let (x1, x2) = (x, x + width);
        let (stroke, stroke_width) = (stroke(), 0.8);
        scene.add(Primitive::Line {
            x1,
            y1: at,
            x2,
            y2: at,
            stroke,
            stroke_width,
            stroke_dasharray: None,
        });
        at -= every;
    }
}

/// `run 3f2a, run 77b0 and 3 more`.
fn runs_of(runs: &[String]) -> String {
    const MOST: usize = 6;
    let named: Vec<String> =
        runs.iter().take(MOST).map(|run| format!("run {}", super::label(run, 40))).collect();
    let more = runs.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

/// Of 1, 2 or 5 times a power of ten the least that makes no more than six ticks.
fn tick_step(highest: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for step in [1, 2, 5].map(|it| power.saturating_mul(it)) {
            if highest.div_ceil(step) <= 6 {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

fn axes(
    scene: &mut Scene,
    bars: &Bars,
    [left, top, width, height]: [f64; 4],
    step: u64,
    most: u64,
) {
    let bottom = top + height;
    let mut line = |[x1, y1, x2, y2]: [f64; 4], colour: &str, stroke_width: f64| {
        let stroke = Color::from(colour);
        scene.add(Primitive::Line { x1, y1, x2, y2, stroke, stroke_width, stroke_dasharray: None });
    };
    let ticks: Vec<(u64, f64)> = (0..=most / step)
        .map(|idx| {
            (idx * step, bottom - height * number::to_f64(idx * step) / number::to_f64(most))
        })
        .collect();
    for (n, y) in &ticks {
        if *n > 0 {
            line([left, *y, left + width, *y], "#cccccc", 1.0);
        }
        line([left - 5.0, *y, left, *y], "#000000", 1.0);
    }
    line([left, bottom, left + width, bottom], "#000000", 1.0);
    line([left, top, left, bottom], "#000000", 1.0);
    for (n, y) in ticks {
        scene.add(words(left - 8.0, y + 4.0, number::count(n), TextAnchor::End, TICK_SIZE));
    }
    let slot = width / bars.bins.len().max(1) as f64;
    let widest = bars.bins.iter().map(|bin| text_width(bin, f64::from(TICK_SIZE)) + 6.0);
    let widest = widest.fold(1.0, f64::max);
    // Every so-manieth name, so that none runs into its neighbour.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    let every = (widest / slot).ceil().max(1.0) as usize;
    for (idx, bin) in bars.bins.iter().enumerate().step_by(every) {
        let x = left + slot * (idx as f64 + 0.5);
        scene.add(words(x, bottom + 16.0, shown(bin, 16), TextAnchor::Middle, TICK_SIZE));
    }
    let x_words = shown(&bars.x, 70);
    scene.add(words(left + width / 2.0, bottom + 40.0, x_words, TextAnchor::Middle, 13));
    let mut y_words = words(16.0, top + height / 2.0, shown(&bars.y, 40), TextAnchor::Middle, 13);
    if let Primitive::Text { rotate, .. } = &mut y_words {
        *rotate = Some(-90.0);
    }
    scene.add(y_words);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_round() {
        let steps = [0, 1, 6, 7, 25, 60, 61, 4321].map(tick_step);
        assert_eq!(steps, [1, 1, 1, 2, 5, 10, 20, 1000]);
    }

    #[test]
    fn many_runs_are_named_in_part() {
        let runs: Vec<String> = (0..9).map(|idx| format!("0{idx}")).collect();
        assert_eq!(runs_of(&runs[..2]), "run 00, run 01");
        assert_eq!(runs_of(&runs), "run 00, run 01, run 02, run 03, run 04, run 05 and 3 more");
    }
}
