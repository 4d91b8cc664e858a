//! The last sync, the password, and the erasure of a device: what withdrawn credentials may do, what a receipt takes, and when
//! an order to erase is given. `world` has the server, its accounts, and devices that speak as `docs/handover-protocol.md` says.

mod commands;
mod feeds;
mod life;
mod manifests;
mod power;
mod scoped;
mod standings;
mod wipes;
mod world;
