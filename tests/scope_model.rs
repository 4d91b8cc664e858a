//! Scoped databases against the rule: random districts, accounts, settings, devices and pushes, and after each step what
//! `tests/acceptance/README.md` says.
//!
//! The rule is written down once more in `scope_model/oracle.rs`, `rule.rs` and `judge.rs`, over plain maps and without
//! any idea of how the server does it; `scope_model/cases.rs` holds it against the acceptance data. The rest drives a real
//! server. `SETTLE_STEPS` says how many steps (20,000 otherwise), `SETTLE_SEED` repeats one world. A step is a document
//! written, deleted, moved or pushed, a page pulled, a change of an account or of the settings, a restart.
//! `SETTLE_EVERY=1` compares what every user sees after every single change, which takes long and finds the first wrong one.
//! `SETTLE_DRAIN=strict` also insists that the drain window accepts whatever the rule says it does.

mod cases;
mod device;
mod district;
mod escrow;
mod judge;
mod oracle;
mod pushes;
mod rule;
mod steps;
mod world;

use world::World;

/// Steps of all worlds together.
const STEPS: u64 = 20_000;
/// Steps of one world.
const WORLD: u64 = 2_500;
/// The worlds are dealt to this many tests, which run beside each other.
const QUARTERS: u64 = 4;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The worlds of one quarter; or in the first the one world that `SETTLE_SEED` asks for.
fn quarter(number: u64) {
    let steps = setting("SETTLE_STEPS");
    let seeds = match setting("SETTLE_SEED") {
        Some(seed) if number == 0 => vec![seed],
        Some(_) => Vec::new(),
        None => (0..steps.unwrap_or(STEPS).div_ceil(WORLD)).filter(|seed| seed % QUARTERS == number).collect(),
    };
    for seed in seeds {
        println!("SETTLE_SEED={seed}");
        let mut world = World::new(seed);
        world.run(steps.map_or(WORLD, |steps| steps.min(WORLD)));
    }
}

#[test]
fn first_quarter() {
    quarter(0);
}

#[test]
fn second_quarter() {
    quarter(1);
}

#[test]
fn third_quarter() {
    quarter(2);
}

#[test]
fn last_quarter() {
    quarter(3);
}
