//! Who makes a request. Made by `login.rs` only; everything that decides takes one.

use super::security::ADMIN_ROLE;
use super::standing::Judged;
use super::user_document::Author;
use super::withdrawals::Pass;

/// Manages accounts and devices, and reads no document by it (design §10).
pub const ACCOUNT_ADMIN: &str = "account_admin";

/// Reads who there is and what was done, writes nothing, and reads no document by it (design §10).
pub const AUDITOR: &str = "auditor";

/// How the caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing was shown.
    None,
    /// A session cookie.
    Cookie,
    /// Name and password.
    Basic,
    /// The server is open to everybody ("party mode").
    Open,
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account's or operator's name; `None` for the anonymous.
    pub name: Option<String>,
    /// Roles; operators have `_admin`.
    pub roles: Vec<String>,
    /// How it was proved.
    pub proof: Proof,
    /// The session behind a cookie, by its fingerprint.
    pub session: Option<[u8; 32]>,
    /// A renewed cookie to send back.
    pub renewed_cookie: Option<String>,
    /// Account, device and epoch; nothing for operators and the anonymous, whose standing never changes.
    pub pass: Option<Pass>,
    /// What the credentials were worth when the request began.
    pub judged: Judged,
}

impl Caller {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: None,
            roles: Vec::new(),
            proof: Proof::None,
            session: None,
            renewed_cookie: None,
            pass: None,
            judged: Judged::default(),
        }
    }

    /// Everybody, on a server that is open.
    #[must_use]
    pub fn of_open_server() -> Self {
        Self { roles: vec![ADMIN_ROLE.to_owned()], proof: Proof::Open, ..Self::anonymous() }
    }

    /// An operator: may do everything.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.roles.iter().any(|role| role == ADMIN_ROLE)
    }

    /// Manages accounts and devices, all or some.
    #[must_use]
    pub fn manages_accounts(&self) -> bool {
        self.is_operator() || self.roles.iter().any(|role| role == ACCOUNT_ADMIN)
    }

    /// Reads the audit log and everything about people.
    #[must_use]
    pub fn audits(&self) -> bool {
        self.roles.iter().any(|role| role == AUDITOR)
    }

    /// May look at accounts, devices and who held a place: of all, or of those that it manages.
    #[must_use]
    pub fn oversees(&self) -> bool {
        self.manages_accounts() || self.audits()
    }

    /// As the rules of `_users` see it.
    #[must_use]
    pub fn author(&self, database_admin: bool) -> Author<'_> {
        Author { name: self.name.as_deref(), server_admin: self.is_operator(), database_admin }
    }
}
