//! The tables of accounts and sessions, and their bytes (`storage/LAYOUT.md`).

use super::standing::{Cause, Drain, Withdrawal};
use crate::storage::{Decoder, Encode, Family, Table, Value};

/// name → account
pub const ACCOUNTS: Table<String, AccountRow> = Table::new(Family::Accounts);
/// fingerprint of the token → session
pub const SESSIONS: Table<[u8; 32], SessionRow> = Table::new(Family::Sessions);

const VERSION: u8 = 1;
/// Version 2 has places and contact, version 3 also what was withdrawn, version 4 whether there is a document, version 5 when it
/// was made, whether it waits for its person, and the programme's own name for it.
const ACCOUNT_VERSION: u8 = 5;
/// Version 2 has the device.
const SESSION_VERSION: u8 = 2;

/// What logging in needs to know. Kept when the account is deleted, so that its epoch never runs backwards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountRow {
    /// It has a document in `_users`. An account without a password is there, too: it logs in by links.
    pub exists: bool,
    /// Grows with every change of the credential; sessions remember the one of their birth.
    pub epoch: u64,
    /// The hash as text; nothing: nobody can log in with a password.
    pub credential: Option<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Asks for a one-time code that Settle cannot check: a password alone must not do.
    pub needs_second_factor: bool,
    /// Ids of its places (`facility_id`).
    pub places: Vec<String>,
    /// The person it acts as (`contact_id`).
    pub contact: Option<String>,
    /// Whether anybody can log in.
    pub closed: Closed,
    /// Epochs that ended, oldest first: their credentials may still push for a while.
    pub former: Vec<Former>,
    /// A shell: nobody can log in with it until its person uses a link.
    pub prepared: bool,
    /// When it was made, in seconds since 1970; 0: before this was noted.
    pub made: u64,
    /// The programme's own name for it (`external_id`).
    pub external_id: Option<String>,
}

/// Whether an account is closed to logins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Closed {
    /// It is not.
    #[default]
    Open,
    /// Until somebody enables it again.
    Disabled,
    /// For good.
    Retired,
}

/// An epoch that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// Which.
    pub epoch: u64,
    /// How it ended.
    pub withdrawal: Withdrawal,
    /// Its credential, which is still verified, for push only.
    pub credential: Option<String>,
    /// The account's roles at its end.
    pub roles: Vec<String>,
}

impl AccountRow {
    /// Whether it is neither disabled nor retired: links may be made and used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.closed == Closed::Open
    }

    /// Whether its credentials are worth anything: it is open, and its person has activated it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.is_open() && !self.prepared
    }

    /// The roles of credentials of an epoch. `None`: it is not remembered.
    #[must_use]
    pub fn roles_in(&self, epoch: u64) -> Option<&[String]> {
        if self.is_active() && epoch == self.epoch {
            return Some(&self.roles);
        }
        self.former.iter().rev().find(|former| former.epoch == epoch).map(|former| former.roles.as_slice())
    }
}

impl Closed {
    const ALL: [Self; 3] = [Self::Open, Self::Disabled, Self::Retired];
}

impl Former {
    fn encode(&self, out: &mut Vec<u8>) {
        let Withdrawal { cause, at, drain: Drain { window, cap } } = self.withdrawal;
        out.push(CAUSES.iter().position(|known| *known == cause).unwrap_or_default() as u8);
        for number in [self.epoch, at, window, cap] {
            out.varint(number);
        }
        out.push(u8::from(self.credential.is_some()));
        out.string(self.credential.as_deref().unwrap_or_default().as_bytes());
        strings(out, &self.roles);
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let cause = *CAUSES.get(usize::from(from.byte()?))?;
        let (epoch, at) = (from.varint()?, from.varint()?);
        let drain = Drain { window: from.varint()?, cap: from.varint()? };
        let has_credential = from.byte()? == 1;
        let credential = Some(from.text()?.to_owned()).filter(|_| has_credential);
        Some(Self { epoch, withdrawal: Withdrawal { cause, at, drain }, credential, roles: read_strings(from)? })
    }
}

/// Causes by their number in a row; new ones go to the end.
const CAUSES: [Cause; 6] = [
    Cause::PasswordChanged,
    Cause::Disabled,
    Cause::AccountRetired,
    Cause::AccountDeleted,
    Cause::DeviceRetired,
    Cause::Lost,
];

fn strings(out: &mut Vec<u8>, texts: &[String]) {
    out.varint(texts.len() as u64);
    for text in texts {
        out.string(text.as_bytes());
    }
}

fn read_strings(from: &mut Decoder<'_>) -> Option<Vec<String>> {
    let count = from.varint()?;
    (0..count).map(|_| from.text().map(str::to_owned)).collect()
}

impl Value for AccountRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(ACCOUNT_VERSION);
        out.varint(self.epoch);
        out.push(u8::from(self.needs_second_factor));
        out.push(u8::from(self.credential.is_some()));
        out.string(self.credential.as_deref().unwrap_or_default().as_bytes());
        strings(out, &self.roles);
        strings(out, &self.places);
        out.string(self.contact.as_deref().unwrap_or_default().as_bytes());
        out.push(self.closed as u8);
        out.varint(self.former.len() as u64);
        for former in &self.former {
            former.encode(out);
        }
        out.push(u8::from(self.exists));
        out.push(u8::from(self.prepared));
        out.varint(self.made);
        out.string(self.external_id.as_deref().unwrap_or_default().as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder::new(bytes);
        let version = from.byte()?;
        (VERSION..=ACCOUNT_VERSION).contains(&version).then_some(())?;
        let epoch = from.varint()?;
        let needs_second_factor = from.byte()? == 1;
        let has_credential = from.byte()? == 1;
        let credential = Some(from.text()?.to_owned()).filter(|_| has_credential);
        let roles = read_strings(&mut from)?;
        let mut row = Self { epoch, credential, roles, needs_second_factor, ..Self::default() };
        if version >= 2 {
            row.places = read_strings(&mut from)?;
            row.contact = Some(from.text()?.to_owned()).filter(|contact| !contact.is_empty());
        }
        if version >= 3 {
            row.closed = *Closed::ALL.get(usize::from(from.byte()?))?;
            let count = from.varint()?;
            row.former = (0..count).map(|_| Former::decode(&mut from)).collect::<Option<_>>()?;
        }
        row.exists = match version {
            4.. => from.byte()? == 1,
            // Nothing of a deleted account was kept but its epochs.
            _ => row.credential.is_some() || !row.roles.is_empty() || !row.places.is_empty() || row.contact.is_some(),
        };
        if version >= 5 {
            row.prepared = from.byte()? == 1;
            row.made = from.varint()?;
            row.external_id = Some(from.text()?.to_owned()).filter(|id| !id.is_empty());
        }
        Some(row)
    }
}

/// One login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Whose.
    pub name: String,
    /// An operator of the configuration, not an account of `_users`.
    pub operator: bool,
    /// The account's epoch at birth; another epoch ends the session.
    pub epoch: u64,
    /// Seconds since 1970.
    pub born: u64,
    /// Seconds since 1970; moved on by use.
    pub expires: u64,
    /// Seconds it lives without use.
    pub lifetime: u64,
    /// The device; nothing for operators.
    pub device: [u8; 16],
}

impl Value for SessionRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(SESSION_VERSION);
        out.string(self.name.as_bytes());
        out.push(u8::from(self.operator));
        for number in [self.epoch, self.born, self.expires, self.lifetime] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.device);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder::new(bytes);
        (from.byte()? == SESSION_VERSION).then_some(())?; // a session of an older program asks to log in again
        Some(Self {
            name: from.text()?.to_owned(),
            operator: from.byte()? == 1,
            epoch: from.u64()?,
            born: from.u64()?,
            expires: from.u64()?,
            lifetime: from.u64()?,
            device: from.array()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_read_back(
            epoch: u64, credential: Option<String>, roles: Vec<String>, operator: bool, name: String, cause in 0..6_usize,
        ) {
            let drain = Drain { window: epoch, cap: 7 };
            let withdrawal = Withdrawal { cause: CAUSES[cause], at: epoch, drain };
            let former = Former { epoch, withdrawal, credential: credential.clone(), roles: roles.clone() };
            let account = AccountRow {
                exists: operator, epoch, credential, places: roles.clone(), roles, needs_second_factor: operator,
                contact: Some(name.clone()).filter(|name| !name.is_empty()),
                closed: Closed::ALL[cause % 3], former: vec![former; cause], prepared: operator, made: epoch,
                external_id: Some(name.clone()).filter(|id| !id.is_empty()),
            };
            let session = SessionRow { name, operator, epoch, born: 1, expires: 2, lifetime: 3, device: [4; 16] };
            let (mut a, mut s) = (Vec::new(), Vec::new());
            account.encode(&mut a);
            session.encode(&mut s);
            prop_assert_eq!(AccountRow::decode(&a), Some(account));
            prop_assert_eq!(SessionRow::decode(&s), Some(session));
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
            drop(AccountRow::decode(&bytes));
            drop(SessionRow::decode(&bytes));
        }
    }
}
