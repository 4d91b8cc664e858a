//! `settle account import`.
