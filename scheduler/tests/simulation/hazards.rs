//! How dangerous the world is: drawn once for a seed, worse in an outage, and nothing any more once it is healed.

use std::sync::Mutex;

use super::sim::{Hazard, Sim, lock};

#[derive(Debug, Clone, Copy)]
struct Level {
    store: Hazard,
    broker: Hazard,
    source: Hazard,
    /// Chance that an attempt fails by itself, of each thing it does.
    attempt: f64,
    /// Chance that the engine tells something other than what was done.
    engine: f64,
}

const CALM: Hazard = Hazard { fails: 0.0, slow: 5, late: false };

pub struct Hazards {
    level: Mutex<Level>,
    usual: Level,
}

impl Hazards {
    pub fn draw(sim: &Sim) -> Self {
        let hazard = |worst: f64| {
            let fails = if sim.chance(0.2) { 0.0 } else { worst * sim.below(1000) as f64 / 1000.0 };
            Hazard { fails, slow: [2, 20, 200, 2000][sim.below(4) as usize], late: false }
        };
        let usual = Level {
            store: Hazard { late: true, ..hazard(0.15) },
            broker: hazard(0.1),
            source: hazard(0.2),
            attempt: hazard(0.05).fails,
            engine: hazard(0.2).fails,
        };
        Self { level: Mutex::new(usual), usual }
    }

    pub fn store(&self) -> Hazard {
        lock(&self.level).store
    }

    pub fn broker(&self) -> Hazard {
        lock(&self.level).broker
    }

    pub fn source(&self) -> Hazard {
        lock(&self.level).source
    }

    pub fn attempt(&self) -> f64 {
        lock(&self.level).attempt
    }

    pub fn engine(&self) -> f64 {
        lock(&self.level).engine
    }

    /// Nearly every request fails.
    pub fn store_is_out(&self, out: bool) {
        lock(&self.level).store.fails = if out { 0.9 } else { self.usual.store.fails };
    }

    pub fn broker_is_out(&self, out: bool) {
        lock(&self.level).broker.fails = if out { 0.9 } else { self.usual.broker.fails };
    }

    pub fn source_is_out(&self, out: bool) {
        lock(&self.level).source.fails = if out { 1.0 } else { self.usual.source.fails };
    }

    pub fn heal(&self) {
        *lock(&self.level) = Level { store: CALM, broker: CALM, source: CALM, attempt: 0.0, engine: 0.0 };
    }
}
