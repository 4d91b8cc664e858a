//! The command line: arguments in, one command out; why it failed in one line, never with a stack of functions.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use settle::commands::{
    account, audit, backup, bench, break_glass, demo, device, import, outbox, place, receipt, restore, serve, verify,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An offline-first sync server for community health: CouchDB's replication protocol on RocksDB.
#[derive(Parser)]
#[command(name = "settle", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop.
    Serve(serve::ServeArguments),
    /// Start with a small district, and let real PouchDB phones sync with it.
    Demo(demo::DemoArguments),
    /// Measure this server, or any CouchDB-compatible one.
    Bench(bench::BenchArguments),
    /// Copy the data of a running or stopped server.
    Backup(backup::BackupArguments),
    /// Bring over what another server holds, and prove that it arrived.
    Import(import::ImportArguments),
    /// Copy a backup to where a server will serve it, or confirm a restore without a ledger.
    Restore(restore::RestoreArguments),
    /// Let an operator read documents of a scoped database for a while, for a reason that is kept.
    BreakGlass(break_glass::BreakGlassArguments),
    /// Check the audit log, show its end, or write it to a file.
    Audit(audit::AuditArguments),
    /// Move places of a scoped database, and hand them over to other people.
    Place(place::PlaceArguments),
    /// Devices: list, show, retire, cut, order to erase.
    Device(device::DeviceArguments),
    /// Accounts: create, import, list, link, sheet, password, disable, enable, retire, cut.
    Account(account::AccountArguments),
    /// Links on their way to people: list, retry, cancel.
    Outbox(outbox::OutboxArguments),
    /// Check receipts without a server.
    Receipt(receipt::ReceiptArguments),
    /// Check every stored row of a stopped server or a backup.
    Verify(verify::VerifyArguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Backup(arguments) => backup::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::BreakGlass(arguments) => break_glass::run(&arguments),
        Command::Audit(arguments) => audit::run(arguments),
        Command::Place(arguments) => place::run(arguments),
        Command::Device(arguments) => device::run(arguments),
        Command::Account(arguments) => account::run(arguments),
        Command::Outbox(arguments) => outbox::run(arguments),
        Command::Receipt(arguments) => receipt::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
    }
}
