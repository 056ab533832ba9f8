//! Makes the C library's allocator give memory back, for a process that has a bound on its memory.
//!
//! By default glibc keeps an arena for almost every thread, each as large as the largest split that its thread ever
//! worked on, and returns little of them: with 8 vcores an executor took 790 MiB for what fits in 423. The settings are
//! read when a process starts, so it starts itself again with them, under the same process id.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Few arenas; large buffers are mapped and unmapped; the top of an arena is given back soon.
const SETTINGS: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "1048576"), ("MALLOC_TRIM_THRESHOLD_", "4194304")];

/// Goes on in the same process with these settings, unless any of them was given. To be called before anything is
/// opened: on success it does not return.
pub fn give_back() {
    if SETTINGS.iter().any(|(name, _)| env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let failed = Command::new(program).args(env::args_os().skip(1)).envs(SETTINGS).exec();
    eprintln!("warning: memory is given back late: the process could not start itself again: {failed}");
}
