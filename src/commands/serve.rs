//! `settle serve`: the server.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::clock::random;
use crate::config::Config;
use crate::http::{Listener, serve};
use crate::services::Services;
use crate::telemetry;

/// Arguments of `settle serve`; each also in the environment.
#[derive(Debug, clap::Args)]
pub struct ServeArguments {
    /// Data folder [default: ./settle-data].
    #[arg(long, env = "SETTLE_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Copy of the revocation ledger, on another disk if there is one [default: beside the data folder, its name and .ledger].
    #[arg(long, env = "SETTLE_LEDGER", value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Address to listen on; port 0 picks a free one [default: 127.0.0.1:5984].
    #[arg(long, env = "SETTLE_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// An operator; may be given several times. The password may be a hash as CouchDB writes it.
    #[arg(long, env = "SETTLE_ADMIN", value_name = "NAME:PASSWORD", hide_env_values = true)]
    pub admin: Vec<String>,
    /// Configuration file (TOML).
    #[arg(long, env = "SETTLE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// No operators: everybody may do everything. For trying things out only.
    #[arg(long, env = "SETTLE_ADMIN_PARTY", conflicts_with = "admin")]
    pub admin_party: bool,
}

impl ServeArguments {
    fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::default();
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            config.read(&text).map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))?;
        }
        config.data = self.data.clone().unwrap_or(config.data);
        config.ledger = self.ledger.clone().or(config.ledger);
        config.listen = self.listen.unwrap_or(config.listen);
        config.open |= self.admin_party;
        for admin in &self.admin {
            let (name, password) = admin.split_once(':').context("--admin takes NAME:PASSWORD")?;
            anyhow::ensure!(!name.is_empty() && !password.is_empty(), "--admin takes NAME:PASSWORD, neither empty");
            config.admins.insert(name.to_owned(), password.to_owned());
        }
        Ok(config)
    }
}

/// Runs the command.
///
/// # Errors
/// When the configuration is wrong, the store cannot be opened, or the address cannot be bound.
pub fn run(arguments: ServeArguments) -> anyhow::Result<()> {
    telemetry::start();
    let mut config = arguments.config()?;
    if config.admins.is_empty() && !config.open {
        let password = generated_password(&config.data)?;
        config.admins.insert("admin".to_owned(), password);
    }
    let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(serve_until_stopped(config))
}

/// The password of the generated operator: made and printed once, then kept in the data folder for its owner to read.
fn generated_password(data: &Path) -> anyhow::Result<String> {
    let path = data.join("admin-password");
    if let Ok(password) = std::fs::read_to_string(&path) {
        return Ok(password.trim().to_owned());
    }
    let password: String = random::<12>().iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.write(true).create_new(true).open(&path).context("cannot keep the admin password")?;
    writeln!(file, "{password}")?;
    println!("no operator is configured: made `admin` with password {password}");
    println!("(kept in {}; set your own with --admin NAME:PASSWORD)", path.display());
    Ok(password)
}

async fn serve_until_stopped(config: Config) -> anyhow::Result<()> {
    let services = Services::open(&config).await?;
    let listener =
        Listener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let mut sending = crate::sending::start(&services).await?;
    println!("listening on http://{}", listener.address()?);
    std::io::stdout().flush()?;
    let (stop, stopped) = watch::channel(false);
    let house = tokio::spawn(std::sync::Arc::clone(&services).keep_house());
    let grants = tokio::spawn(std::sync::Arc::clone(&services).keep_grants());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let serving = tokio::spawn(serve(listener, std::sync::Arc::clone(&services), stopped));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: open requests may finish");
    stop.send_replace(true);
    serving.await?;
    house.abort();
    grants.abort();
    sending.shutdown().await;
    services.finish().await;
    services.store.close();
    Ok(())
}
