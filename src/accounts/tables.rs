//! The tables of accounts and sessions, and their bytes (`storage/LAYOUT.md`).

use crate::storage::{Decoder, Encode, Family, Table, Value};

/// name → account
pub const ACCOUNTS: Table<String, AccountRow> = Table::new(Family::Accounts);
/// fingerprint of the token → session
pub const SESSIONS: Table<[u8; 32], SessionRow> = Table::new(Family::Sessions);

const VERSION: u8 = 1;
/// Version 2 has places and contact.
const ACCOUNT_VERSION: u8 = 2;

/// What logging in needs to know. Kept when the account is deleted, so that its epoch never runs backwards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountRow {
    /// Grows with every change of the credential; sessions remember the one of their birth.
    pub epoch: u64,
    /// The hash as text; nothing: nobody can log in.
    pub credential: Option<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// Asks for a one-time code that Settle cannot check: a password alone must not do.
    pub needs_second_factor: bool,
    /// Ids of its places (`facility_id`).
    pub places: Vec<String>,
    /// The person it acts as (`contact_id`).
    pub contact: Option<String>,
}

impl Value for AccountRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(ACCOUNT_VERSION);
        out.varint(self.epoch);
        out.push(u8::from(self.needs_second_factor));
        out.push(u8::from(self.credential.is_some()));
        out.string(self.credential.as_deref().unwrap_or_default().as_bytes());
        out.varint(self.roles.len() as u64);
        for role in &self.roles {
            out.string(role.as_bytes());
        }
        out.varint(self.places.len() as u64);
        for place in &self.places {
            out.string(place.as_bytes());
        }
        out.string(self.contact.as_deref().unwrap_or_default().as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder::new(bytes);
        let version = from.byte()?;
        (VERSION..=ACCOUNT_VERSION).contains(&version).then_some(())?;
        let epoch = from.varint()?;
        let needs_second_factor = from.byte()? == 1;
        let has_credential = from.byte()? == 1;
        let credential = from.text()?.to_owned();
        let count = from.varint()?;
        let roles = (0..count).map(|_| from.text().map(str::to_owned)).collect::<Option<_>>()?;
        let credential = has_credential.then_some(credential);
        let mut row = Self { epoch, credential, roles, needs_second_factor, ..Self::default() };
        if version == ACCOUNT_VERSION {
            let count = from.varint()?;
            row.places = (0..count).map(|_| from.text().map(str::to_owned)).collect::<Option<_>>()?;
            row.contact = Some(from.text()?.to_owned()).filter(|contact| !contact.is_empty());
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
}

impl Value for SessionRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.string(self.name.as_bytes());
        out.push(u8::from(self.operator));
        for number in [self.epoch, self.born, self.expires] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder::new(bytes);
        (from.byte()? == VERSION).then_some(())?;
        Some(Self {
            name: from.text()?.to_owned(),
            operator: from.byte()? == 1,
            epoch: from.u64()?,
            born: from.u64()?,
            expires: from.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_read_back(epoch: u64, credential: Option<String>, roles: Vec<String>, operator: bool, name: String) {
            let contact = Some(name.clone()).filter(|name| !name.is_empty());
            let account =
                AccountRow { epoch, credential, places: roles.clone(), roles, needs_second_factor: operator, contact };
            let session = SessionRow { name, operator, epoch, born: 1, expires: 2 };
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
