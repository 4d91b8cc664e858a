//! Paths with queries, of the console's own pages and of the API: every value is escaped.

use std::fmt;

use super::ROOT;
use crate::http::handlers::escaped;

/// A path, with a query if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(String);

impl Address {
    /// Of the API.
    pub(super) fn api(segments: &[&str]) -> Self {
        let mut address = String::new();
        for segment in segments {
            address.push('/');
            address.push_str(&escaped(segment));
        }
        Self(address)
    }

    /// Of a page.
    pub(super) fn page(segments: &[&str]) -> Self {
        match segments {
            [] => Self(format!("/{ROOT}/")),
            segments => Self(format!("/{ROOT}{}", Self::api(segments).0)),
        }
    }

    /// … with a member of the query.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&escaped(value));
        self
    }

    /// … with a member that may be absent, or empty as in a form.
    pub(super) fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_place() {
        let page = Address::page(&["devices", "a/b?c"]).with("place", "x&y=z #").with_some("after", Some(""));
        assert_eq!(page.as_str(), "/_console/devices/a%2Fb%3Fc?place=x%26y%3Dz%20%23");
        assert_eq!(Address::page(&[]).with("done", "a").with("b", "ü").as_str(), "/_console/?done=a&b=%C3%BC");
        assert_eq!(Address::api(&["medic", "_escrow"]).as_str(), "/medic/_escrow");
    }
}
