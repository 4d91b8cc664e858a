//! Receipts: the signed statement that everything a device listed is durable here. Pure: what a receipt says, the text that is
//! signed, and how it is checked without a server (`docs/handover-protocol.md` §4).

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::tables::DatabaseId;
use crate::storage::{Batch, Family, Read, StorageError, StorageResult, from_json_row, hex, json_row, unhex};

const META_KEY: &[u8] = b"receipt_key";
/// The form of receipts that this program writes and reads.
const FORM: u32 = 1;

/// A receipt. Its members in the order of its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The form: 1.
    pub version: u32,
    /// The server's identity, 32 hex digits.
    pub server: String,
    /// The history of the store, 32 hex digits: a restore begins another.
    pub incarnation: String,
    /// The database's name …
    pub database: String,
    /// … and identity, 32 hex digits.
    pub database_uuid: String,
    /// The device, 32 hex digits.
    pub device: String,
    /// Its account.
    pub account: String,
    /// The device's name for the manifest.
    pub manifest: String,
    /// Documents listed.
    pub documents: u64,
    /// Revisions listed.
    pub revisions: u64,
    /// Revisions listed that wait in escrow for a decision.
    pub escrowed: u64,
    /// BLAKE3 over the sorted lines of the manifest, 64 hex digits.
    pub root: String,
    /// The position of the database when the receipt was given.
    pub position: u64,
    /// Seconds since 1970.
    pub time: u64,
    /// The public key, 64 hex digits.
    pub key: String,
    /// Ed25519, 128 hex digits.
    pub signature: String,
}

/// Why a receipt proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is of a form that this program does not know.
    #[error("it has a version that this program does not know")]
    Version,
    /// A text of it could be read in two ways.
    #[error("a text in it holds a line end")]
    Lines,
    /// Key or signature are no hex digits of the right number, or no point on the curve.
    #[error("its key or its signature is malformed")]
    Malformed,
    /// It names another key than the one it was to be checked with.
    #[error("it was signed with another key than the server's")]
    OtherKey,
    /// The signature does not fit.
    #[error("its signature does not fit: it was altered")]
    Signature,
}

impl Receipt {
    /// The text that is signed; nothing when it could be read in two ways.
    fn text(&self) -> Result<String, Invalid> {
        let members: [(&str, &dyn std::fmt::Display); 13] = [
            ("server", &self.server),
            ("incarnation", &self.incarnation),
            ("database", &self.database),
            ("database_uuid", &self.database_uuid),
            ("device", &self.device),
            ("account", &self.account),
            ("manifest", &self.manifest),
            ("documents", &self.documents),
            ("revisions", &self.revisions),
            ("escrowed", &self.escrowed),
            ("root", &self.root),
            ("position", &self.position),
            ("time", &self.time),
        ];
        let mut text = format!("settle receipt {}\n", self.version);
        for (name, value) in members {
            let value = value.to_string();
            if value.contains('\n') {
                return Err(Invalid::Lines);
            }
            text.push_str(&format!("{name}={value}\n"));
        }
        Ok(text)
    }

    /// Checks the receipt against the server's public key.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn verify(&self, key: &[u8; 32]) -> Result<(), Invalid> {
        if self.version != FORM {
            return Err(Invalid::Version);
        }
        if unhex(&self.key) != Some(*key) {
            return Err(Invalid::OtherKey);
        }
        let key = VerifyingKey::from_bytes(key).map_err(|_| Invalid::Malformed)?;
        let signature = unhex::<64>(&self.signature).ok_or(Invalid::Malformed)?;
        let signed = key.verify_strict(self.text()?.as_bytes(), &Signature::from_bytes(&signature));
        signed.map_err(|_| Invalid::Signature)
    }
}

/// The key that signs. One per server, made at its first start.
pub struct ReceiptKey(SigningKey);

impl std::fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReceiptKey")
    }
}

impl ReceiptKey {
    /// The stored key, or this one, which is stored then.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(batch: &mut Batch<'_>, fresh: [u8; 32]) -> StorageResult<Self> {
        let secret = match batch.get_bytes(Family::Meta, META_KEY)? {
            Some(stored) => {
                let corrupt = StorageError::Corrupt { table: "meta", problem: "malformed receipt key" };
                <[u8; 32]>::try_from(stored).map_err(|_| corrupt)?
            }
            None => {
                batch.put_bytes(Family::Meta, META_KEY, fresh);
                fresh
            }
        };
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// The public key, 64 hex digits.
    #[must_use]
    pub fn public(&self) -> String {
        hex(self.0.verifying_key().as_bytes())
    }

    /// Signs a receipt: fills in its version, key and signature.
    ///
    /// # Errors
    /// When a text of it holds a line end.
    pub fn sign(&self, receipt: Receipt) -> Result<Receipt, Invalid> {
        let receipt = Receipt { version: FORM, key: self.public(), ..receipt };
        let signature = self.0.sign(receipt.text()?.as_bytes());
        Ok(Receipt { signature: hex(&signature.to_bytes()), ..receipt })
    }
}

fn key(database: DatabaseId, device: &[u8; 16]) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"c", device].concat()
}

/// The newest receipt of a device for a database.
///
/// # Errors
/// When the store fails.
pub fn newest(reader: &impl Read, database: DatabaseId, device: &[u8; 16]) -> StorageResult<Option<Receipt>> {
    const CORRUPT: StorageError = StorageError::Corrupt { table: "manifests", problem: "malformed receipt" };
    let stored = reader.get_bytes(Family::Manifests, &key(database, device))?;
    stored.map(|row| from_json_row(&row).ok_or(CORRUPT)).transpose()
}

/// Keeps a receipt as the newest of its device for a database. Earlier ones stay in the audit log.
pub fn keep(batch: &mut Batch<'_>, database: DatabaseId, device: &[u8; 16], receipt: &Receipt) {
    batch.put_bytes(Family::Manifests, key(database, device), json_row(receipt));
}

/// Hashes lines in order. The root of a manifest.
#[derive(Debug, Clone, Default)]
pub struct Root {
    hasher: blake3::Hasher,
    /// Lines so far.
    pub revisions: u64,
    /// Documents so far.
    pub documents: u64,
    last: Option<String>,
}

impl Root {
    /// Adds the next line of the manifest: `id NUL revision LF`.
    pub fn add(&mut self, id: &str, line: &[u8]) {
        self.hasher.update(line);
        self.revisions += 1;
        if self.last.as_deref() != Some(id) {
            self.documents += 1;
            self.last = Some(id.to_owned());
        }
    }

    /// 64 hex digits.
    #[must_use]
    pub fn finish(&self) -> String {
        hex(self.hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        let text = |text: &str| text.to_owned();
        Receipt {
            version: 0,
            server: text("aa"),
            incarnation: text("bb"),
            database: text("medic"),
            database_uuid: text("cc"),
            device: text("dd"),
            account: text("ann"),
            manifest: text("m1"),
            documents: 2,
            revisions: 3,
            escrowed: 1,
            root: text("ee"),
            position: 4711,
            time: 1_798_000_000,
            key: String::new(),
            signature: String::new(),
        }
    }

    fn signed() -> (Receipt, [u8; 32]) {
        let key = ReceiptKey(SigningKey::from_bytes(&[7; 32]));
        let public = unhex(&key.public()).expect("hex");
        (key.sign(receipt()).expect("plain text"), public)
    }

    #[test]
    fn the_text_is_as_documented() {
        let text = "settle receipt 1\nserver=aa\nincarnation=bb\ndatabase=medic\ndatabase_uuid=cc\ndevice=dd\naccount=ann\n\
                    manifest=m1\ndocuments=2\nrevisions=3\nescrowed=1\nroot=ee\nposition=4711\ntime=1798000000\n";
        assert_eq!(signed().0.text().as_deref(), Ok(text));
    }

    #[test]
    fn a_receipt_fits_its_key_only() {
        let (receipt, key) = signed();
        assert_eq!(receipt.verify(&key), Ok(()));
        assert_eq!(receipt.verify(&[1; 32]), Err(Invalid::OtherKey));
        let other = ReceiptKey(SigningKey::from_bytes(&[8; 32])).sign(receipt.clone()).expect("plain text");
        assert_eq!(other.verify(&key), Err(Invalid::OtherKey));
        let renamed = Receipt { key: receipt.key.clone(), ..other };
        assert_eq!(renamed.verify(&key), Err(Invalid::Signature));
    }

    #[test]
    fn every_member_is_signed() {
        let (receipt, key) = signed();
        let value = serde_json::to_value(&receipt).expect("JSON");
        for (name, member) in value.as_object().expect("an object") {
            let mut altered = value.clone();
            altered[name] = match member.as_u64() {
                Some(number) => (number + 1).into(),
                None => format!("{}0", member.as_str().unwrap_or_default()).into(),
            };
            let altered: Receipt = serde_json::from_value(altered).expect("a receipt");
            assert!(altered.verify(&key).is_err(), "{name} is not covered");
        }
    }

    #[test]
    fn what_reads_in_two_ways_is_not_signed() {
        let key = ReceiptKey(SigningKey::from_bytes(&[7; 32]));
        let account = "ann\nmanifest=m2".to_owned();
        assert_eq!(key.sign(Receipt { account, ..receipt() }), Err(Invalid::Lines));
    }
}
