//! Pure decisions: values in, answer out. No storage, no HTTP.

pub mod need;
