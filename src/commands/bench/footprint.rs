//! Memory and disk of the server after it has taken in all sample documents.
//!
//! Memory is the resident set of the server's process; disk is what `du` says about its data folder, or what the server
//! says about the database when the folder is not ours.
//! Never asks the server to compact or to free anything first.

use std::time::Duration;

use super::Stage;
use super::client::{self, Client};
use super::report::Figure;

/// Time for the server to come to rest after the last write.
const REST: Duration = Duration::from_secs(1);

/// Writes all documents in bulk and looks at memory and disk.
pub async fn measure(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let before = stage.server.memory();
    client::create_filled_database(&stage.server.target, stage.database, stage.scale.documents).await?;
    tokio::time::sleep(REST).await;
    let mut figures = Vec::new();
    if let Some(memory) = stage.server.memory() {
        let before = before.unwrap_or_default();
        let note = format!("after {} documents; {before:.0} MiB before them", stage.scale.documents);
        figures.push(Figure::new("memory", memory, "MiB", note));
    }
    let bytes = stage.scale.documents as f64 * 500.0 / (1024.0 * 1024.0);
    let note = format!("{bytes:.0} MiB of JSON");
    if let Some(disk) = stage.server.disk() {
        figures.push(Figure::new("disk", disk, "MiB", format!("data folder; {note}")));
    } else {
        let info = Client::open(&stage.server.target).await?.json("GET", &format!("/{}", stage.database), b"").await?;
        let disk = info["sizes"]["file"].as_f64().unwrap_or_default() / (1024.0 * 1024.0);
        figures.push(Figure::new("disk", disk, "MiB", format!("sizes.file of the database; {note}")));
    }
    Ok(figures)
}
