//! The objects and how bright they are.

use std::f64::consts::TAU;

use super::noise::Noise;

/// Objects that take turns. More than a visit's alerts, so that a visit sees none twice.
pub(super) const N_OBJECTS: u64 = 12_000;

/// Days of history in an alert.
const HISTORY_DAYS: f64 = 30.0;

#[derive(Debug, Clone, Copy)]
pub(super) struct Sky {
    noise: Noise,
    pub start_mjd: f64,
    /// How much fainter than in ZTF everything is, the limit too, in mag.
    depth: f64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Object {
    pub index: u64,
    pub noise: Noise,
    /// Degrees.
    pub ra: f64,
    pub dec: f64,
    pub class: Class,
    /// What a usual exposure reaches, in mag.
    limit: f64,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Class {
    /// Periodic, with a steep rise and a slow fall. Amplitude in mag, period in days.
    Variable { mean: f64, amplitude: f64, period: f64 },
    /// Explodes at `start` (mjd), rises for `rise` days to `peak` (mag), and fades.
    Supernova { start: f64, peak: f64, rise: f64 },
    /// Was elsewhere before.
    Asteroid { magnitude: f64 },
}

/// One look at the place of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub mjd: f64,
    /// Of `ugrizy`.
    pub band: usize,
    /// None if nothing was seen down to `limit`.
    pub magnitude: Option<f64>,
    pub limit: f64,
    pub noise: Noise,
}

impl Sky {
    pub(super) fn new(seed: u64, start_mjd: f64, depth: f64) -> Self {
        Self { noise: Noise::new(seed), start_mjd, depth }
    }

    /// A number for an object's name: different for each object, and for most seeds.
    pub(super) fn designation(&self, object: &Object) -> u64 {
        self.noise.below(9, 600_000) * N_OBJECTS + object.index
    }

    /// Of a hundred objects 55 are variable stars, 25 supernovae, 20 asteroids.
    pub(super) fn object(&self, index: u64) -> Object {
        let noise = self.noise.of(index);
        let class = match noise.below(1, 100) {
            0..55 => Class::Variable {
                mean: self.depth + noise.between(2, 15.0, 19.8),
                amplitude: noise.between(3, 0.1, 1.2),
                period: noise.between(4, 0.2, 3.0),
            },
            55..80 => Class::Supernova {
                start: self.start_mjd - noise.between(2, 2.0, 60.0),
                peak: self.depth + noise.between(3, 15.5, 19.0),
                rise: noise.between(4, 12.0, 20.0),
            },
            _ => Class::Asteroid { magnitude: self.depth + noise.between(2, 16.0, 20.0) },
        };
        let limit = 20.3 + self.depth;
        Object { index, limit, noise, ra: noise.between(5, 0.0, 360.0), dec: noise.between(6, -28.0, 80.0), class }
    }
}

impl Object {
    /// In mag, None if it does not shine. Redder bands are a little brighter.
    fn magnitude(&self, mjd: f64, band: usize) -> Option<f64> {
        let color = 0.2 * (2.0 - band as f64);
        match self.class {
            Class::Variable { mean, amplitude, period } => {
                let phase = TAU * (mjd / period + self.noise.between(7, 0.0, 1.0));
                Some(mean + color - amplitude * (phase.sin() + 0.4 * (2.0 * phase).sin()) / 2.0)
            }
            Class::Supernova { start, peak, rise } => {
                let age = mjd - start;
                let below_peak = match age {
                    ..0.0 => return None,
                    _ if age < rise => 4.0 * (1.0 - age / rise).powi(2),
                    _ => (0.06 * (age - rise)).min(4.0),
                };
                Some(peak + color + below_peak)
            }
            Class::Asteroid { magnitude } => Some(magnitude + color),
        }
    }

    /// The detection that raises an alert: seen, however faint.
    pub(super) fn detection(&self, mjd: f64, band: usize) -> Sight {
        let sight = self.look(mjd, band, self.noise.of(mjd.to_bits()));
        let faintest = sight.limit - 0.1;
        Sight { magnitude: Some(sight.magnitude.unwrap_or(faintest).min(faintest)), ..sight }
    }

    /// Looks of the last 30 days before the first exposure, oldest first, in turn through `bands`.
    pub(super) fn history(&self, sky: &Sky, bands: &[usize]) -> Vec<Sight> {
        let n_looks = self.noise.below(8, 46);
        let look = |step: u64| {
            let noise = self.noise.of(1000 + step);
            let mjd = sky.start_mjd - HISTORY_DAYS * (n_looks - step) as f64 / n_looks as f64;
            let sight = self.look(mjd - noise.between(1, 0.0, 0.1), bands[step as usize % bands.len()], noise);
            match self.class {
                Class::Asteroid { .. } => Sight { magnitude: None, ..sight },
                _ => sight,
            }
        };
        (0..n_looks).map(look).collect()
    }

    fn look(&self, mjd: f64, band: usize, noise: Noise) -> Sight {
        let limit = self.limit + noise.between(2, -0.5, 0.5);
        let magnitude = self.magnitude(mjd, band).map(|magnitude| magnitude + noise.normal(3, 0.03));
        Sight { mjd, band, magnitude: magnitude.filter(|magnitude| *magnitude < limit), limit, noise }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supernova_is_unseen_then_rises_then_fades() {
        let sky = Sky::new(3, 61_000.0, 0.0);
        let object = Object { class: Class::Supernova { start: 100.0, peak: 17.0, rise: 15.0 }, ..sky.object(0) };
        let at = |mjd| object.magnitude(mjd, 2);
        assert_eq!(at(99.0), None);
        assert!(at(102.0) > at(110.0) && at(110.0) > at(115.0) && at(115.0) < at(140.0));
    }

    #[test]
    fn an_object_is_the_same_whenever_it_is_asked_for() {
        let sky = Sky::new(3, 61_000.0, 0.0);
        let text = |index| format!("{:?}", sky.object(index).history(&sky, &[1, 2]));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }
}
