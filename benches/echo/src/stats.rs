//! Medians and their like.

use std::time::Duration;

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

pub fn quartiles(values: Vec<f64>) -> (f64, f64) {
    (quantile(values.clone(), 0.25), quantile(values, 0.75))
}

/// The value below which this part of all lies; not a number if there are none.
pub fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1)) as f64 * part;
    values.get(at.round() as usize).copied().unwrap_or(f64::NAN)
}

/// How far the quartiles lie apart, in percent of the median: the noise of a measurement.
pub fn spread(values: Vec<f64>) -> f64 {
    let (low, high) = quartiles(values.clone());
    (high - low) / median(values) * 100.0
}
