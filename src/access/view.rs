//! What a caller looks through, and the proof that it may see a value.
//!
//! [`Visible`] is the seal: only this file makes one, and what writes documents into answers takes nothing else. A reader
//! who wants to know whether bytes can leak has to read one function.

use std::ops::{Deref, DerefMut};

use settle_protocol::sequence::Position;

use super::placement::Placement;
use super::scope::{Cursor, Scope};

/// What a caller of a database may see.
#[derive(Debug, Clone)]
pub enum View {
    /// Everything: plain databases, operators, stewards.
    Everything,
    /// What a scope shows.
    Restricted(Box<Restricted>),
}

/// A restricted caller of a scoped database.
#[derive(Debug, Clone)]
pub struct Restricted {
    /// Which account.
    pub account: String,
    /// Which device of it.
    pub device: [u8; 16],
    /// What it may see.
    pub scope: Scope,
    /// The newest change of account or settings that `scope` knows.
    pub scope_position: Position,
}

/// A value that the caller may see.
#[derive(Debug, Clone)]
pub struct Visible<T>(T);

impl View {
    /// The restricted caller behind this view, if it is one.
    #[must_use]
    pub fn restricted(&self) -> Option<&Restricted> {
        match self {
            Self::Everything => None,
            Self::Restricted(restricted) => Some(restricted),
        }
    }

    /// Whether no document at all can be seen through it, whatever there is.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.restricted().is_some_and(|restricted| restricted.scope.blind)
    }

    /// How far the log is, as it may be told: whoever sees no document does not learn how often something was written.
    #[must_use]
    pub fn position(&self, position: Position) -> Position {
        if self.is_blind() { 0 } else { position }
    }

    /// Lets a value through when its document is visible. `placement` is where the document is filed, `None` for one that
    /// is filed nowhere; it is not looked at when everything is visible.
    pub fn show<T, E>(
        &self,
        placement: impl FnOnce() -> Result<Option<Placement>, E>,
        value: T,
    ) -> Result<Option<Visible<T>>, E> {
        Ok(match self {
            Self::Everything => Some(Visible(value)),
            Self::Restricted(restricted) => {
                let placement = placement()?;
                placement.filter(|placement| restricted.scope.sees(placement, None)).map(|_| Visible(value))
            }
        })
    }
}

impl Scope {
    /// Lets a value of a document through that this scope sees.
    pub fn show<T>(&self, placement: &Placement, value: T) -> Option<Visible<T>> {
        self.sees(placement, None).then_some(Visible(value))
    }
}

impl<T> Visible<T> {
    /// A row that was found in a range of this scope, where the range alone decides: it is not private, and of the only
    /// author the range asks for.
    pub fn in_scope(cursor: Cursor, scope: &Scope, row: T) -> Option<Self> {
        scope.reads(&cursor).then_some(Self(row))
    }

    /// The same right for something read from the same document.
    pub fn map<U>(self, read: impl FnOnce(T) -> U) -> Visible<U> {
        Visible(read(self.0))
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Visible<Option<T>> {
    /// Nothing stays nothing.
    pub fn transpose(self) -> Option<Visible<T>> {
        self.0.map(Visible)
    }
}

impl<T> Deref for Visible<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Visible<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
