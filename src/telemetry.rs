//! Logs: structured, to standard error, without document content. `SETTLE_LOG` filters, `SETTLE_LOG_FORMAT=json` shapes.

use tracing_subscriber::EnvFilter;

/// Starts logging for this process. A second call does nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("SETTLE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match std::env::var("SETTLE_LOG_FORMAT").as_deref() {
        Ok("json") => builder.json().try_init(),
        _ => builder.with_ansi(false).try_init(),
    };
    drop(started);
}
