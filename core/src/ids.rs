//! Identities of the epoch protocol. Each is a newtype, so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The unit of commit of a job, counted from 0.
    Epoch(u64)
);
number!(
    /// One piece of an epoch's source that one task reads. Fixed by the intent: the only stable name.
    SplitId(u32)
);
number!(
    /// One scheduler's reign over a job.
    Term(u64)
);
number!(
    /// A fixed slot of a Kafka sink: split `i` uses lane `i mod L`.
    Lane(u32)
);
