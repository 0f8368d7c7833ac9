//! Charts: lines over numbers of connections, and bars for things that are compared.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

/// A line of a chart: its name and its points.
pub type Line = (String, Vec<(f64, f64)>);

const SIZE: (u32, u32) = (760, 440);
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 128, 96),
    RGBColor(204, 85, 0),
    RGBColor(70, 90, 200),
    RGBColor(150, 50, 140),
    RGBColor(120, 120, 120),
    RGBColor(190, 150, 0),
    RGBColor(0, 150, 190),
    RGBColor(160, 30, 40),
];

fn colour(at: usize) -> RGBColor {
    COLOURS[at % COLOURS.len()]
}

/// Draws lines over a number of connections, both axes logarithmic.
///
/// # Errors
/// If the file cannot be written.
pub fn lines(path: &Path, title: &str, unit: &str, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points).filter(|(_, y)| *y > 0.0);
    let bounds = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (left, right) = bounds(&mut points().map(|(x, _)| *x));
    let (low, high) = bounds(&mut points().map(|(_, y)| *y));
    if left > right {
        return Ok(()); // nothing to draw
    }
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (left * 0.9..right * 1.1).log_scale(),
            (low * 0.8..high * 1.25).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("connections")
        .y_desc(unit)
        .light_line_style(WHITE)
        .x_label_formatter(&|x| plain(*x))
        .y_label_formatter(&|y| plain(*y))
        .draw()?;
    for (at, (name, points)) in lines.iter().enumerate() {
        let style = colour(at).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

/// Draws a group of horizontal bars, the value written beside each.
///
/// # Errors
/// If the file cannot be written.
pub fn bars(
    path: &Path,
    title: &str,
    unit: &str,
    bars: &[(String, f64)],
) -> Result<(), Box<dyn Error>> {
    const ROW: i32 = 30;
    const LEFT: i32 = 190;
    const TOP: i32 = 60;
    let most = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let (width, height) = (SIZE.0, (TOP + ROW * bars.len() as i32 + 20) as u32);
    let area = SVGBackend::new(path, (width, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |size| ("sans-serif", size).into_font().color(&BLACK);
    area.draw_text(title, &text(20), (16, 12))?;
    area.draw_text(unit, &text(13), (16, 38))?;
    for (at, (name, value)) in bars.iter().enumerate() {
        let top = TOP + ROW * at as i32;
        let length = (f64::from(SIZE.0 as i32 - LEFT - 90) * value / most).max(1.0) as i32;
        let fill = if name.starts_with("greenling") { colour(0) } else { RGBColor(150, 160, 170) };
        area.draw(&Rectangle::new([(LEFT, top), (LEFT + length, top + ROW - 8)], fill.filled()))?;
        area.draw_text(name, &text(15), (16, top + 3))?;
        area.draw_text(&plain(*value), &text(15), (LEFT + length + 8, top + 3))?;
    }
    area.present()?;
    Ok(())
}

/// Three digits that matter, and no exponent.
fn plain(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
