//! The system's clock as a test wants it: libfaketime (the Debian package `faketime`) in front of the server, with a file
//! that says how far ahead it is. Without the library a clock cannot be set, and whoever asks is told so.

use std::path::{Path, PathBuf};

use super::server::Options;

const PLACES: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib"];
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A clock that runs like the real one, some seconds ahead or behind.
#[derive(Debug)]
pub(crate) struct SetClock {
    library: PathBuf,
    file: tempfile::NamedTempFile,
}

impl SetClock {
    /// `None` where libfaketime is not installed.
    pub(crate) fn find() -> Option<Self> {
        let below = |folder: &Path| {
            let inside = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            std::iter::once(folder.to_owned())
                .chain(inside)
                .map(|folder| folder.join(LIBRARY))
                .find(|file| file.exists())
        };
        let library = PLACES.iter().find_map(|folder| below(Path::new(folder)))?;
        let clock = Self { library, file: tempfile::NamedTempFile::new().expect("a temporary file") };
        clock.set(0);
        Some(clock)
    }

    /// Puts it so many seconds ahead of the real time, for every server that was started with it.
    pub(crate) fn set(&self, seconds: i64) {
        // In one step: a server may read it at any moment.
        let next = self.file.path().with_extension("next");
        std::fs::write(&next, format!("{seconds:+}\n")).expect("the file of the clock");
        std::fs::rename(&next, self.file.path()).expect("the file of the clock");
    }

    /// The file that [`SetClock::set`] writes, for tests that are no Rust.
    pub(crate) fn file(&self) -> &Path {
        self.file.path()
    }

    /// Starts a server with this clock. Its timers run by the real one.
    pub(crate) fn of(&self, options: Options) -> Options {
        options
            .environment("LD_PRELOAD", &self.library.to_string_lossy())
            .environment("FAKETIME_TIMESTAMP_FILE", &self.file.path().to_string_lossy())
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .environment("DONT_FAKE_MONOTONIC", "1")
    }
}
