//! The topic partition of a key, as Kafka's own clients choose it: the same key is in the same one, whoever wrote it.

/// The partition of a record with this key in a topic of `n_partitions`.
pub fn partition_of(key: &[u8], n_partitions: i32) -> i32 {
    (murmur2(key) & i32::MAX) % n_partitions.max(1)
}

/// MurmurHash2 (Austin Appleby) with Kafka's seed.
fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mix = |word: u32| {
        let word = word.wrapping_mul(M);
        (word ^ (word >> 24)).wrapping_mul(M)
    };
    let (words, rest) = data.as_chunks::<4>();
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    for word in words {
        hash = hash.wrapping_mul(M) ^ mix(u32::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafkas_java_client() {
        let known = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
        assert_eq!(partition_of(b"21", 4), (-973_932_308 & i32::MAX) % 4);
    }
}
