//! The state machine of withdrawn rights against a plain model: random interleavings of password changes, disabling,
//! retiring, cuts, logins, edits, pushes, pulls, manifests, wipes, kills, restarts and clocks that jump both ways.
//!
//! `plain.rs` says in a few lines what each login may still do; `world.rs` does the same steps to a real server and compares
//! after each. Beside that: no read succeeds after the withdrawal, also not on a feed that was open before; what a device
//! held when it became drained by a manifest is in the database or in escrow; a wipe is ordered only for such a device,
//! or by two people. `SETTLE_HANDOVER_STEPS` says how many steps (150 in each of two worlds otherwise), `SETTLE_SEED`
//! repeats one world. Clocks jump only where libfaketime is installed.

mod plain;
mod world;

use world::World;

const STEPS: u64 = 150;

fn run(seed: u64) {
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = setting("SETTLE_SEED").unwrap_or(seed);
    println!("SETTLE_SEED={seed}");
    World::new(seed).run(setting("SETTLE_HANDOVER_STEPS").unwrap_or(STEPS));
}

#[test]
fn first_world() {
    run(1);
}

#[test]
fn second_world() {
    run(2);
}
