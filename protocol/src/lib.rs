//! CouchDB's replication protocol as data: what a document, a revision tree, a feed and a checkpoint are.
//!
//! This crate does no I/O, reads no clock, draws no random numbers and knows no async: bytes and options go in, values
//! and bytes come out. It never panics on input. The server around it stores, decides who may see what, and talks HTTP.
//!
//! | module | what it is |
//! |---|---|
//! | [`raw_json`] | one pass over JSON text: checks it, hands out slices, builds nothing |
//! | [`document`], [`attachment`] | a document: `_` members understood, the rest the client's own text |
//! | [`design_document`] | what a design document must look like |
//! | [`document_id`] | what ids and database names are legal |
//! | [`revision`], [`revision_tree`] | revision ids, and the tree with its laws |
//! | [`bulk`], [`listing`], [`query`], [`manifest`] | request shapes |
//! | [`changes`], [`sequence`] | feed options, rows and tokens |
//! | [`selector`], [`collation`] | the Mango matcher |
//! | [`multipart`], [`range`] | multipart bodies and byte ranges |
//! | [`checkpoint`] | `_local` revisions and where two histories agree |
//! | [`error`] | every error with CouchDB's word and status |

pub mod attachment;
pub mod bulk;
pub mod changes;
pub mod checkpoint;
pub mod collation;
pub mod design_document;
pub mod document;
pub mod document_id;
pub mod error;
pub mod listing;
pub mod manifest;
pub mod multipart;
pub mod query;
pub mod range;
pub mod raw_json;
pub mod revision;
pub mod revision_tree;
pub mod selector;
pub mod sequence;

pub use error::{Error, ErrorKind, Result};
pub use revision::Revision;
pub use revision_tree::RevisionTree;
