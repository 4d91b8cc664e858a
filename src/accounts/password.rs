//! Passwords: how a new one is hashed, how a stored hash is checked, what a new one must be like.
//!
//! New hashes are argon2id. Hashes brought along from CouchDB (pbkdf2 with any of its PRFs, simple) verify and ask to
//! be upgraded. A hash has one stored text and one shape as members of a `_users` document, and each can be turned into
//! the other. Never keeps a password, never shows one or a hash in debug output; salts come from the caller. Hashing
//! takes tens of milliseconds by design: call it where blocking is allowed.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};
use sha2::{Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;

use super::error::{AccountError, Result};

/// Bytes of salt for a new hash.
pub const SALT_BYTES: usize = 16;

/// The members of a `_users` document that together are the credential (protocol page §6.3), and CouchDB's hint
/// `preserve_salt`, which means nothing here.
pub const CREDENTIAL_MEMBERS: [&str; 7] =
    ["password_scheme", "pbkdf2_prf", "iterations", "salt", "derived_key", "password_sha", "preserve_salt"];

/// What new hashes cost: 19 MiB, 2 passes, 1 lane (OWASP's argon2id recommendation, design §7.1).
const NEW_COST: Argon2Cost = Argon2Cost { memory_kib: 19_456, passes: 2, lanes: 1 };
const NEW_KEY_BYTES: usize = 32;

/// Brought-along hashes may cost this much at most, lest a stored document stop the server: about one second.
const MAX_COST: Argon2Cost = Argon2Cost { memory_kib: 65_536, passes: 16, lanes: 4 };
/// CouchDB's default is 600,000; its own limit, 10^9, would be minutes.
const MAX_ITERATIONS: u32 = 5_000_000;
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
const MAX_SALT_BYTES: usize = 1_024;

/// A stored hash. Two are equal when they are the same hash, not when they are of the same password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Argon2id { cost: Argon2Cost, salt: Vec<u8>, key: Vec<u8> },
    Pbkdf2 { prf: Prf, iterations: u32, salt: String, key: Vec<u8> },
    Simple { salt: String, key: Vec<u8> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Argon2Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prf {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Credential {
    /// Hashes a new password.
    ///
    /// # Errors
    /// `400 bad_request` for a password beyond 4 GiB or when there is no memory to hash in.
    pub fn hash(password: &str, salt: [u8; SALT_BYTES]) -> Result<Self> {
        let mut key = vec![0; NEW_KEY_BYTES];
        if !NEW_COST.derive(password, &salt, &mut key) {
            return Err(AccountError::bad_request("Password cannot be hashed."));
        }
        Ok(Self(Kind::Argon2id { cost: NEW_COST, salt: salt.to_vec(), key }))
    }

    /// Whether this is the password. Compares in constant time.
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        let expected = match &self.0 {
            Kind::Argon2id { key, .. } | Kind::Pbkdf2 { key, .. } | Kind::Simple { key, .. } => key,
        };
        let mut derived = vec![0; expected.len()];
        let computed = match &self.0 {
            Kind::Argon2id { cost, salt, .. } => cost.derive(password, salt, &mut derived),
            Kind::Pbkdf2 { prf, iterations, salt, .. } => {
                prf.derive(password, salt, *iterations, &mut derived);
                true
            }
            Kind::Simple { salt, .. } => {
                derived = Sha1::new().chain_update(password).chain_update(salt).finalize().to_vec();
                true
            }
        };
        bool::from(derived.ct_eq(expected)) && computed
    }

    /// Spends the time of a verification. For unknown names and accounts without a credential, so that they cannot be
    /// told from a wrong password by the clock.
    pub fn verify_nothing(password: &str) {
        let mut key = [0; NEW_KEY_BYTES];
        NEW_COST.derive(password, &[0; SALT_BYTES], &mut key);
        std::hint::black_box(key);
    }

    /// Whether to hash again, with today's method and cost, at the next successful login.
    #[must_use]
    pub fn needs_upgrade(&self) -> bool {
        !matches!(&self.0, Kind::Argon2id { cost, key, .. } if *cost == NEW_COST && key.len() == NEW_KEY_BYTES)
    }

    /// Whether a configured text is a stored hash rather than a password in clear: CouchDB's rule for `[admins]`.
    #[must_use]
    pub fn is_stored_text(text: &str) -> bool {
        ["$argon2", "-pbkdf2-", "-pbkdf2:", "-hashed-"].iter().any(|prefix| text.starts_with(prefix))
    }

    /// The text to store: a PHC string for argon2id, the form of CouchDB's `local.ini` for what came from there.
    #[must_use]
    pub fn to_text(&self) -> String {
        match &self.0 {
            Kind::Argon2id { cost: Argon2Cost { memory_kib, passes, lanes }, salt, key } => {
                let (salt, key) = (BASE64_STANDARD_NO_PAD.encode(salt), BASE64_STANDARD_NO_PAD.encode(key));
                format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${key}")
            }
            Kind::Pbkdf2 { prf, iterations, salt, key } => {
                format!("-pbkdf2:{}-{},{salt},{iterations}", prf.name(), to_hex(key))
            }
            Kind::Simple { salt, key } => format!("-hashed-{},{salt}", to_hex(key)),
        }
    }

    /// Reads [`Credential::to_text`] and the admin hashes of CouchDB's `local.ini`: `-pbkdf2-KEY,SALT,ITERATIONS`
    /// (SHA-1), `-pbkdf2:sha256-KEY,SALT,ITERATIONS`, `-hashed-SHA1,SALT`. `None` for anything else, and for costs
    /// beyond the limits.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix("-hashed-") {
            let (key, salt) = rest.split_once(',')?;
            return Self::simple(salt, key);
        }
        if let Some(rest) = text.strip_prefix("-pbkdf2") {
            let (prf, rest) = rest.split_once('-')?;
            let prf = if prf.is_empty() { Prf::Sha1 } else { Prf::of_name(prf.strip_prefix(':')?)? };
            let (key, rest) = rest.split_once(',')?;
            let (salt, iterations) = rest.rsplit_once(',')?;
            return Self::pbkdf2(prf, iterations.parse().ok()?, salt, key);
        }
        let rest = text.strip_prefix("$argon2id$v=19$")?;
        let [cost, salt, key] = split_exactly(rest, '$')?;
        let [memory, passes, lanes] = split_exactly(cost, ',')?;
        let cost = Argon2Cost {
            memory_kib: memory.strip_prefix("m=")?.parse().ok()?,
            passes: passes.strip_prefix("t=")?.parse().ok()?,
            lanes: lanes.strip_prefix("p=")?.parse().ok()?,
        };
        let decode = |part: &str| BASE64_STANDARD_NO_PAD.decode(part).ok();
        Self::argon2id(cost, decode(salt)?, decode(key)?)
    }

    /// The members of a `_users` document that stand for this hash, of [`CREDENTIAL_MEMBERS`].
    ///
    /// CouchDB's clients expect exactly its five pbkdf2 members (recording `users/own-account`), so argon2id takes
    /// their shape and says so in `pbkdf2_prf`: `argon2id-m19456-p1`, `iterations` the passes, `salt` and `derived_key`
    /// in hex. Nothing is lost, Settle reads it back, and a CouchDB refuses the unknown PRF instead of misreading the
    /// hash.
    #[must_use]
    pub fn to_members(&self) -> Map<String, Value> {
        let members = match &self.0 {
            Kind::Argon2id { cost, salt, key } => json!({
                "password_scheme": "pbkdf2",
                "pbkdf2_prf": format!("argon2id-m{}-p{}", cost.memory_kib, cost.lanes),
                "iterations": cost.passes,
                "salt": to_hex(salt),
                "derived_key": to_hex(key),
            }),
            Kind::Pbkdf2 { prf, iterations, salt, key } => json!({
                "password_scheme": "pbkdf2",
                "pbkdf2_prf": prf.name(),
                "iterations": iterations,
                "salt": salt,
                "derived_key": to_hex(key),
            }),
            Kind::Simple { salt, key } => json!({
                "password_scheme": "simple",
                "salt": salt,
                "password_sha": to_hex(key),
            }),
        };
        match members {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    /// Reads the members of a `_users` document, CouchDB's or [`Credential::to_members`]. `None` when they are no hash
    /// that can be verified here (missing, broken, `bcrypt`, costs beyond the limits): nobody can log in with those.
    #[must_use]
    pub fn from_members(members: &Map<String, Value>) -> Option<Self> {
        let text = |member: &str| members.get(member).and_then(Value::as_str);
        let salt = text("salt").unwrap_or_default();
        match text("password_scheme").unwrap_or("simple") {
            "simple" => Self::simple(salt, text("password_sha")?),
            "pbkdf2" => {
                let iterations = u32::try_from(members.get("iterations")?.as_u64()?).ok()?;
                let prf = text("pbkdf2_prf").unwrap_or("sha");
                let key = text("derived_key")?;
                if let Some(cost) = prf.strip_prefix("argon2id-m") {
                    let (memory, lanes) = cost.split_once("-p")?;
                    let (memory_kib, lanes) = (memory.parse().ok()?, lanes.parse().ok()?);
                    let cost = Argon2Cost { memory_kib, passes: iterations, lanes };
                    return Self::argon2id(cost, from_hex(salt)?, from_hex(key)?);
                }
                Self::pbkdf2(Prf::of_name(prf)?, iterations, salt, key)
            }
            _ => None,
        }
    }

    fn argon2id(cost: Argon2Cost, salt: Vec<u8>, key: Vec<u8>) -> Option<Self> {
        let fits = cost.is_allowed() && (8..=64).contains(&salt.len()) && KEY_BYTES.contains(&key.len());
        fits.then_some(Self(Kind::Argon2id { cost, salt, key }))
    }

    fn pbkdf2(prf: Prf, iterations: u32, salt: &str, key: &str) -> Option<Self> {
        let key = from_hex(key)?;
        let fits = (1..=MAX_ITERATIONS).contains(&iterations) && KEY_BYTES.contains(&key.len());
        let fits = fits && salt.len() <= MAX_SALT_BYTES;
        fits.then(|| Self(Kind::Pbkdf2 { prf, iterations, salt: salt.to_owned(), key }))
    }

    fn simple(salt: &str, key: &str) -> Option<Self> {
        let key = from_hex(key)?;
        let fits = key.len() == 20 && salt.len() <= MAX_SALT_BYTES;
        fits.then(|| Self(Kind::Simple { salt: salt.to_owned(), key }))
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.0 {
            Kind::Argon2id { .. } => "Credential(argon2id)",
            Kind::Pbkdf2 { .. } => "Credential(pbkdf2)",
            Kind::Simple { .. } => "Credential(simple)",
        })
    }
}

impl Argon2Cost {
    /// `false` when the cost or the salt is out of argon2's range, or memory is short; `key` is then not to be used.
    fn derive(self, password: &str, salt: &[u8], key: &mut [u8]) -> bool {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(key.len())).is_ok_and(|params| {
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password_into(password.as_bytes(), salt, key).is_ok()
        })
    }

    fn is_allowed(self) -> bool {
        (1..=MAX_COST.lanes).contains(&self.lanes)
            && (1..=MAX_COST.passes).contains(&self.passes)
            && (8 * self.lanes..=MAX_COST.memory_kib).contains(&self.memory_kib)
    }
}

impl Prf {
    const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// CouchDB's names (`pbkdf2_prf`, 3.4+).
    const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|prf| prf.name() == name)
    }

    /// PBKDF2 with HMAC. The salt is the text as it stands, also where it looks like hex (protocol page §6.3).
    fn derive(self, password: &str, salt: &str, iterations: u32, key: &mut [u8]) {
        let (password, salt) = (password.as_bytes(), salt.as_bytes());
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, key),
            Self::Sha224 => pbkdf2::pbkdf2_hmac::<Sha224>(password, salt, iterations, key),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, key),
            Self::Sha384 => pbkdf2::pbkdf2_hmac::<Sha384>(password, salt, iterations, key),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, key),
        }
    }
}

/// What a new password must be like. The default asks for nothing but a character, as CouchDB does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// Fewest characters.
    pub minimum_characters: usize,
    /// Most bytes: hashing a novel is work for nothing.
    pub maximum_bytes: usize,
    /// Refuse the account's own name, in any case.
    pub refuse_user_name: bool,
    /// Refuse the passwords that guessers try first, in any case.
    pub refuse_common: bool,
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self { minimum_characters: 1, maximum_bytes: 1_024, refuse_user_name: false, refuse_common: false }
    }
}

impl PasswordPolicy {
    /// For real people: eight characters, not the name, nothing common; no composition rules (design §7.1).
    #[must_use]
    pub fn recommended() -> Self {
        Self { minimum_characters: 8, refuse_user_name: true, refuse_common: true, ..Self::default() }
    }

    /// Judges a new password for this account.
    ///
    /// # Errors
    /// `400 bad_request "Password does not conform to requirements. …"` (CouchDB's words) and what to do.
    pub fn check(&self, password: &str, user_name: &str) -> Result<()> {
        let refuse = |advice: &str| {
            Err(AccountError::bad_request(format!("Password does not conform to requirements. {advice}")))
        };
        if password.len() > self.maximum_bytes {
            return refuse(&format!("Use at most {} bytes.", self.maximum_bytes));
        }
        if password.chars().count() < self.minimum_characters {
            return refuse(&format!("Use at least {} characters.", self.minimum_characters));
        }
        let lower_case = password.to_lowercase();
        if self.refuse_user_name && lower_case == user_name.to_lowercase() {
            return refuse("Use something else than the user name.");
        }
        if self.refuse_common && COMMON_PASSWORDS.split(' ').any(|common| common == lower_case) {
            return refuse("This one is among the first that others would try.");
        }
        Ok(())
    }
}

/// A password of almost 80 random bits that can be read out over the telephone: 16 letters and digits that look alike no other.
#[must_use]
pub fn made_up(random: [u8; 16]) -> String {
    const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let mut text = String::new();
    for (at, byte) in random.into_iter().enumerate() {
        if at > 0 && at % 4 == 0 {
            text.push('-');
        }
        let letter = LETTERS[usize::from(byte) % LETTERS.len()];
        text.push(char::from(letter));
    }
    text
}

/// The passwords at the top of every published list, in lower case, and some at home here. Separated by spaces.
const COMMON_PASSWORDS: &str = "\
    000000 0000000000 00000000 0123456789 102030 10203040 111111 11111111 112233 11223344 121212 123123 \
    123123123 123321 1234 12341234 12345 123456 1234567 12345678 123456789 1234567890 123456a 12345qwert \
    123abc 123qwe 147258369 1q2w3e 1q2w3e4r 1q2w3e4r5t 1qaz2wsx 222222 22222222 555555 654321 666666 \
    696969 777777 789456123 87654321 888888 88888888 987654321 9876543210 99999999 a1b2c3d4 aa123456 \
    abc123 abcd1234 abcdefgh admin admin123 administrator asdfasdf asdfghjk asdfghjkl baseball changeme \
    charlie computer default dragon football guest iloveyou internet jesus123 letmein liverpool login \
    master michael monkey nepal123 p@ssw0rd p@ssword pass1234 passw0rd password password1 password12 \
    password123 princess q1w2e3r4 qazwsxedc qwer1234 qwerty qwerty123 qwertyui qwertyuiop secret123 \
    sunshine superman test1234 welcome1 zaq12wsx";

fn split_exactly<const PARTS: usize>(text: &str, separator: char) -> Option<[&str; PARTS]> {
    text.split(separator).collect::<Vec<_>>().try_into().ok()
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

/// The bytes of an even number of hex digits, at most 64 bytes.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() > 128 || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes().chunks_exact(2).map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{CREDENTIAL_MEMBERS, Credential, PasswordPolicy, made_up};

    /// Computed with Python's hashlib, for the password `s3crét`: PRF, iterations, derived key.
    const PBKDF2: [(&str, u32, &str); 5] = [
        ("sha", 10, "f286afc4cd041f14ecf2b57f4c74d89de0924dba"),
        ("sha224", 10, "bb3584bb6875d9cc08a5f221a79a97102cd12db0ad95e94f14767797"),
        ("sha256", 1000, "abc75e9aa1f6a57009b7a7d9d3f31e466ec0cb99d923df985c585ba57b16d1f4"),
        (
            "sha384",
            10,
            "ee37a61d80eb26987a925ef298f16d2050d03b92aab50331368d803cc8346af031814daa4fe03b4e00e9ac29318b983c",
        ),
        (
            "sha512",
            10,
            concat!(
                "c2b152d365df928825f8718dd8b300feb0927da9405a4848e0c9fc05245223c3",
                "b32eb6baaf2bd0f258ccb3eea2f194d826d9fdbdb463e648618010985b475e3e"
            ),
        ),
    ];
    const SIMPLE: &str = "aca1e408c0978ab1e9e24aef91c204fdf54e1a11";
    const SALT: &str = "24fe8bf9a2d1fc0d6b9e0c7d9a3e6e10";

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn assert_is_hash_of(credential: &Credential, password: &str) {
        assert!(credential.verify(password));
        for wrong in ["", "x", &format!("{password} "), &password.to_uppercase()] {
            assert!(!credential.verify(wrong), "{wrong}");
        }
        assert_eq!(Credential::from_text(&credential.to_text()).as_ref(), Some(credential));
        assert!(Credential::is_stored_text(&credential.to_text()));
        let members = credential.to_members();
        assert_eq!(Credential::from_members(&members).as_ref(), Some(credential));
        assert!(members.keys().all(|member| CREDENTIAL_MEMBERS.contains(&member.as_str())));
    }

    #[test]
    fn a_new_password_is_hashed_with_argon2id_and_verifies() {
        let credential = Credential::hash("pä ss:wörd", [1; 16]).unwrap();
        assert_is_hash_of(&credential, "pä ss:wörd");
        assert!(credential.to_text().starts_with("$argon2id$v=19$m=19456,t=2,p=1$AQEBAQEBAQEBAQEBAQEBAQ$"));
        assert!(!credential.needs_upgrade());
        assert_ne!(credential, Credential::hash("pä ss:wörd", [2; 16]).unwrap());
    }

    /// As `argon2-cffi` and the reference implementation compute it.
    #[test]
    fn a_phc_string_of_another_implementation_verifies() {
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let credential = Credential::from_text(text).unwrap();
        assert_is_hash_of(&credential, "password");
        assert!(credential.needs_upgrade());
        assert_eq!(credential.to_text(), text);
    }

    #[test]
    fn hashes_of_couchdb_documents_verify_and_ask_for_an_upgrade() {
        let simple = json!({"salt": SALT, "password_sha": SIMPLE});
        let old = json!({"password_scheme": "pbkdf2", "iterations": 10, "salt": SALT, "derived_key": PBKDF2[0].2});
        let new = PBKDF2.map(|(prf, iterations, key)| {
            let mut document = json!({"password_scheme": "pbkdf2", "salt": SALT, "derived_key": key});
            document["pbkdf2_prf"] = prf.into();
            document["iterations"] = iterations.into();
            document
        });
        for document in [simple, old].into_iter().chain(new) {
            let credential = Credential::from_members(&members(document)).unwrap();
            assert_is_hash_of(&credential, "s3crét");
            assert!(credential.needs_upgrade());
        }
    }

    #[test]
    fn admin_hashes_of_local_ini_verify() {
        for text in [
            format!("-pbkdf2-{},{SALT},10", PBKDF2[0].2),
            format!("-pbkdf2:sha-{},{SALT},10", PBKDF2[0].2),
            format!("-pbkdf2:sha256-{},{SALT},1000", PBKDF2[2].2),
            format!("-hashed-{SIMPLE},{SALT}"),
        ] {
            assert!(Credential::is_stored_text(&text));
            assert_is_hash_of(&Credential::from_text(&text).expect(&text), "s3crét");
        }
        assert!(!Credential::is_stored_text("password"));
        assert!(!Credential::is_stored_text("-password"));
    }

    #[test]
    fn a_salt_with_commas_survives_the_stored_text() {
        let document =
            json!({"password_scheme": "pbkdf2", "iterations": 7, "salt": "a,b,,", "derived_key": "00".repeat(20)});
        let credential = Credential::from_members(&members(document)).unwrap();
        assert_eq!(Credential::from_text(&credential.to_text()), Some(credential));
    }

    #[test]
    fn what_cannot_be_verified_is_no_credential() {
        let key = "00".repeat(20);
        for document in [
            json!({}),
            json!({"password_scheme": "pbkdf2"}),
            json!({"password_scheme": "bcrypt", "derived_key": key, "salt": "x", "iterations": 10}),
            json!({"password_scheme": "pbkdf2", "iterations": 0, "salt": "x", "derived_key": key}),
            json!({"password_scheme": "pbkdf2", "iterations": 1e9 as u64, "salt": "x", "derived_key": key}),
            json!({"password_scheme": "pbkdf2", "iterations": 10.5, "salt": "x", "derived_key": key}),
            json!({"password_scheme": "pbkdf2", "iterations": 10, "salt": "x", "derived_key": ""}),
            json!({"password_scheme": "pbkdf2", "iterations": 10, "salt": "x", "derived_key": "zz".repeat(20)}),
            json!({"password_scheme": "pbkdf2", "iterations": 10, "salt": "x", "derived_key": "éé".repeat(20)}),
            json!({"password_scheme": "pbkdf2", "pbkdf2_prf": "md5", "iterations": 10, "derived_key": key}),
            json!({"password_scheme": "pbkdf2", "pbkdf2_prf": "argon2id-m4294967295-p1", "iterations": 2,
                   "salt": key, "derived_key": key}),
            json!({"password_scheme": "simple", "salt": "x", "password_sha": "00"}),
        ] {
            assert_eq!(Credential::from_members(&members(document.clone())), None, "{document}");
        }
        for text in [
            "",
            "$",
            "$argon2id$v=19$",
            "$argon2id$v=19$m=15,t=1,p=2$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "-pbkdf2-",
            "-pbkdf2:md5-00,x,1",
            "-pbkdf2-00,x",
            "-hashed-",
            "-hashed-00,x",
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(Credential::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn debug_output_shows_no_hash() {
        assert_eq!(format!("{:?}", Credential::hash("x", [1; 16]).unwrap()), "Credential(argon2id)");
        Credential::verify_nothing("x");
    }

    #[test]
    fn the_default_policy_takes_any_password_but_none() {
        let policy = PasswordPolicy::default();
        assert_eq!(policy.check("x", "x"), Ok(()));
        assert!(policy.check("", "ann").is_err());
        assert!(policy.check(&"x".repeat(1_025), "ann").is_err());
    }

    #[test]
    fn the_recommended_policy_says_what_to_do() {
        let policy = PasswordPolicy::recommended();
        assert_eq!(policy.check("gül-und-rot", "ann"), Ok(()));
        for (password, advice) in [
            ("short", "Use at least 8 characters."),
            ("Annapurna", "Use something else than the user name."),
            ("Password123", "This one is among the first that others would try."),
        ] {
            let error = policy.check(password, "annapurna").unwrap_err();
            let reason = format!("Password does not conform to requirements. {advice}");
            assert_eq!((error.status(), error.reason()), (400, reason.as_str()));
        }
    }

    #[test]
    fn made_up_passwords_can_be_read_out() {
        assert_eq!(made_up([0; 16]), "aaaa-aaaa-aaaa-aaaa");
        let password = made_up(*b"0123456789abcdef");
        assert_eq!(password.len(), 19);
        assert!(password.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
        assert!(!password.contains(['0', '1', 'i', 'l', 'o']), "{password}");
    }
}
