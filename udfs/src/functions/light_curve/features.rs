//! The numbers, one after the other.

use super::Observation;
use super::normal::below;

/// In the order of [`features`].
pub(super) const NAMES: [&str; 29] = [
    "mean",
    "weighted_mean",
    "standard_deviation",
    "median",
    "amplitude",
    "beyond_1_std",
    "cusum",
    "inter_percentile_range_10",
    "kurtosis",
    "linear_trend",
    "linear_trend_sigma",
    "linear_trend_noise",
    "linear_fit_slope",
    "linear_fit_slope_sigma",
    "linear_fit_reduced_chi2",
    "magnitude_percentage_ratio_40_5",
    "magnitude_percentage_ratio_20_10",
    "maximum_slope",
    "median_absolute_deviation",
    "median_buffer_range_percentage_10",
    "percent_amplitude",
    "mean_variance",
    "anderson_darling_normal",
    "chi2",
    "skew",
    "stetson_K",
    "eta",
    "eta_e",
    "excess_variance",
];

/// All numbers of a light curve in order of time; NaN for those that it does not have.
pub(super) fn features(curve: &[Observation]) -> [f64; NAMES.len()] {
    let Moments { mean, deviation, skew, kurtosis } = Moments::of(curve);
    let n = curve.len() as f64;
    let mut sorted: Vec<f64> = curve.iter().map(|seen| seen.value).collect();
    sorted.sort_by(f64::total_cmp);
    let quantile = |share: f64| quantile(&sorted, share);
    let [least, median, most] = [0.0, 0.5, 1.0].map(quantile);
    let amplitude = (most - least) / 2.0;
    let mut from_median: Vec<f64> = sorted.iter().map(|value| (value - median).abs()).collect();
    from_median.sort_by(f64::total_cmp);
    let range = |rim: f64| quantile(1.0 - rim) - quantile(rim);
    let share = |is: &dyn Fn(f64) -> bool| sorted.iter().filter(|value| is(**value)).count() as f64 / n;
    let weights = Weights::of(curve);
    let [trend, trend_sigma, trend_noise] = linear_trend(curve, mean);
    let [slope, slope_sigma, slope_chi2] = weights.linear_fit(curve);
    [
        mean,
        weights.mean,
        deviation,
        median,
        amplitude,
        if deviation.is_nan() { f64::NAN } else { share(&|value| (value - mean).abs() > deviation) },
        cusum(curve, mean) / (n * deviation),
        range(0.1),
        kurtosis,
        trend,
        trend_sigma,
        trend_noise,
        slope,
        slope_sigma,
        slope_chi2,
        range(0.4) / range(0.05),
        range(0.2) / range(0.1),
        maximum_slope(curve),
        self::quantile(&from_median, 0.5),
        share(&|value| (value - median).abs() < 0.1 * amplitude),
        (most - median).max(median - least),
        deviation / mean,
        anderson_darling(&sorted, mean, deviation),
        weights.chi2(curve) / (n - 1.0),
        skew,
        weights.stetson_k(curve),
        pairs(curve).map(|(before, after)| (after.value - before.value).powi(2)).sum::<f64>()
            / ((n - 1.0) * deviation * deviation),
        eta_e(curve) / (deviation * deviation),
        (deviation * deviation - curve.iter().map(|seen| seen.error.powi(2)).sum::<f64>() / n) / (mean * mean),
    ]
}

struct Moments {
    mean: f64,
    /// Of a sample.
    deviation: f64,
    skew: f64,
    kurtosis: f64,
}

impl Moments {
    /// Skewness and excess kurtosis without bias (Joanes & Gill 1998, The Statistician 47, 183: G1 and G2).
    fn of(curve: &[Observation]) -> Self {
        let n = curve.len() as f64;
        let mean = curve.iter().map(|seen| seen.value).sum::<f64>() / n;
        let sum = |power| curve.iter().map(|seen| (seen.value - mean).powi(power)).sum::<f64>();
        let least = |count: usize, value: f64| if curve.len() < count { f64::NAN } else { value };
        let deviation = least(2, (sum(2) / (n - 1.0)).sqrt());
        let skew = n / ((n - 1.0) * (n - 2.0)) * sum(3) / deviation.powi(3);
        let scale = n * (n + 1.0) / ((n - 1.0) * (n - 2.0) * (n - 3.0));
        let kurtosis = scale * sum(4) / deviation.powi(4) - 3.0 * (n - 1.0).powi(2) / ((n - 2.0) * (n - 3.0));
        Self { mean, deviation, skew: least(3, skew), kurtosis: least(4, kurtosis) }
    }
}

/// The value below which a share of sorted values lies, between two of them by a straight line (Hyndman & Fan 1996, The
/// American Statistician 50, 361: definition 5).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = (share * sorted.len() as f64 - 0.5).clamp(0.0, last as f64);
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64)
}

fn pairs(curve: &[Observation]) -> impl Iterator<Item = (&Observation, &Observation)> {
    curve.iter().zip(curve.iter().skip(1))
}

/// The range of the cumulative sums (Kim et al. 2014, A&A 566, A43), before it is divided.
fn cusum(curve: &[Observation], mean: f64) -> f64 {
    let (mut sum, mut least, mut most) = (0.0f64, f64::INFINITY, f64::NEG_INFINITY);
    for seen in curve {
        sum += seen.value - mean;
        (least, most) = (least.min(sum), most.max(sum));
    }
    most - least
}

/// Slope of the least squares' line, its error and the noise around it, all without the errors of the values.
fn linear_trend(curve: &[Observation], mean: f64) -> [f64; 3] {
    let n = curve.len() as f64;
    let middle = curve.iter().map(|seen| seen.time).sum::<f64>() / n;
    let spread: f64 = curve.iter().map(|seen| (seen.time - middle).powi(2)).sum();
    let slope = curve.iter().map(|seen| (seen.time - middle) * seen.value).sum::<f64>() / spread;
    let line = |seen: &Observation| mean + slope * (seen.time - middle);
    let rest: f64 = curve.iter().map(|seen| (seen.value - line(seen)).powi(2)).sum();
    match curve.len() {
        0..=2 => [f64::NAN; 3],
        _ => [slope, (rest / (n - 2.0) / spread).sqrt(), (rest / (n - 2.0)).sqrt()],
    }
}

fn maximum_slope(curve: &[Observation]) -> f64 {
    let slopes = pairs(curve).map(|(before, after)| ((after.value - before.value) / (after.time - before.time)).abs());
    // Two observations at one time have no slope.
    slopes.fold(f64::NAN, |most, slope| if slope.is_nan() || most > slope { most } else { slope })
}

/// Whether values are of a normal distribution (Anderson & Darling 1952, as Stephens 1974, JASA 69, 730, corrects it for
/// few values).
fn anderson_darling(sorted: &[f64], mean: f64, deviation: f64) -> f64 {
    let n = sorted.len() as f64;
    if sorted.len() < 4 || deviation == 0.0 {
        return f64::NAN;
    }
    let terms = sorted.iter().zip(1..).map(|(value, i)| {
        let (z, i) = ((value - mean) / deviation, f64::from(i));
        (2.0 * i - 1.0) * below(z).ln() + (2.0 * (n - i) + 1.0) * below(-z).ln()
    });
    (-n - terms.sum::<f64>() / n) * (1.0 + 4.0 / n - 25.0 / (n * n))
}

/// How much values differ from one to the next for their distance in time (Kim et al. 2014, A&A 566, A43), times the
/// variance.
fn eta_e(curve: &[Observation]) -> f64 {
    let (Some(first), Some(last)) = (curve.first(), curve.last()) else { return f64::NAN };
    let slopes =
        pairs(curve).map(|(before, after)| ((after.value - before.value) / (after.time - before.time)).powi(2));
    (last.time - first.time).powi(2) * slopes.sum::<f64>() / (curve.len() as f64 - 1.0).powi(3)
}

/// Sums that weigh each observation by the inverse square of its error.
struct Weights {
    sum: f64,
    mean: f64,
}

impl Weights {
    fn of(curve: &[Observation]) -> Self {
        let sum: f64 = curve.iter().map(weight).sum();
        Self { sum, mean: curve.iter().map(|seen| weight(seen) * seen.value).sum::<f64>() / sum }
    }

    fn chi2(&self, curve: &[Observation]) -> f64 {
        curve.iter().map(|seen| weight(seen) * (seen.value - self.mean).powi(2)).sum()
    }

    /// Slope, its error and the reduced χ² of the line of least χ² (Press et al. 2007, Numerical Recipes, 15.2).
    fn linear_fit(&self, curve: &[Observation]) -> [f64; 3] {
        let middle = curve.iter().map(|seen| weight(seen) * seen.time).sum::<f64>() / self.sum;
        let spread: f64 = curve.iter().map(|seen| weight(seen) * (seen.time - middle).powi(2)).sum();
        let along = curve.iter().map(|seen| weight(seen) * (seen.time - middle) * seen.value);
        let slope = along.sum::<f64>() / spread;
        let line = |seen: &Observation| self.mean + slope * (seen.time - middle);
        let chi2: f64 = curve.iter().map(|seen| weight(seen) * (seen.value - line(seen)).powi(2)).sum();
        match curve.len() {
            0..=2 => [f64::NAN; 3],
            n => [slope, spread.sqrt().recip(), chi2 / (n as f64 - 2.0)],
        }
    }

    /// How peaked the residuals are: 0.798 for normal ones (Stetson 1996, PASP 108, 851).
    fn stetson_k(&self, curve: &[Observation]) -> f64 {
        let away = |seen: &Observation| (seen.value - self.mean) / seen.error;
        match curve.len() {
            // Of one, rounding would be all there is.
            0..=1 => f64::NAN,
            n => curve.iter().map(|seen| away(seen).abs()).sum::<f64>() / (n as f64 * self.chi2(curve)).sqrt(),
        }
    }
}

fn weight(seen: &Observation) -> f64 {
    seen.error.powi(-2)
}
