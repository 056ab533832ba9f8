//! Sizes (`8MiB`), times (`30s`) and numbers that arrive as texts.

use std::time::Duration;

const SIZES: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
    ("", 1),
];

/// Milliseconds per unit.
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

fn parse(text: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = text[digits..].trim();
    let names = || units.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", ");
    let number: u64 = text[..digits].parse().map_err(|_| format!("'{text}' is not a whole number with a unit"))?;
    let (_, factor) = units
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| format!("'{text}' has no known unit, the units are {}", names()))?;
    number.checked_mul(*factor).ok_or_else(|| format!("'{text}' is too large"))
}

/// A time such as `30s`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    parse(text, &TIMES).map(Duration::from_millis)
}

pub(super) mod bytes {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_string())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        super::parse(&String::deserialize(deserializer)?, &super::SIZES).map_err(de::Error::custom)
    }
}

pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", value.as_millis()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::span(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

pub(super) mod number {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_string())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        super::parse(&String::deserialize(deserializer)?, &[("", 1)]).map_err(de::Error::custom)
    }
}
