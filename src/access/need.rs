//! What an endpoint asks for, and whether a caller may have it.
//!
//! The need of each endpoint stands in one column of `http/endpoint.rs`. Sources: protocol page §6.4 and the *Auth* column
//! of §1; design §10. Which documents a restricted caller sees is not decided here.

use crate::accounts::caller::Caller;
use crate::accounts::error::AccountError;
use crate::accounts::security::Security;
use crate::accounts::standing::Right;

/// What an endpoint asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Anyone,
    /// An account on a device, whatever it is still worth.
    Device,
    /// Bring replicated work: what a withdrawn right keeps (protocol page §4.8).
    Push,
    /// A feed of documents: a withdrawn right gets an empty one.
    Feed,
    /// Read documents.
    Pull,
    /// Edit documents one by one. With `new_edits=false` it is a push.
    Edit,
    /// Administer this database.
    Manage,
    /// Upkeep of this database (CouchDB answers 401 where `Manage` answers 403).
    Upkeep,
    /// Somebody who is logged in.
    Account,
    /// Manage accounts and devices; which ones is decided beside them.
    Accounts,
    /// Look at accounts and devices; which ones is decided beside them.
    Oversee,
    /// Look up who held a place: whoever oversees accounts, and members of the database.
    Custody,
    /// Read the audit log: all of it, or what one did oneself.
    Audit,
    /// Check the whole audit log.
    AuditWhole,
    /// Operate the server.
    Operate,
}

/// Whether this caller may have it. `security` is that of the database, if the endpoint has one.
///
/// # Errors
/// 401 or 403 in CouchDB's words.
pub fn permit(need: Need, caller: &Caller, security: Option<&Security>) -> Result<(), AccountError> {
    let name = caller.name.as_deref();
    match need {
        Need::Anyone | Need::Device => {}
        Need::Push => caller.judged.allow(Right::Push)?,
        Need::Feed if caller.judged.pushes_only() => {}
        _ => caller.judged.allow(Right::Everything)?,
    }
    match (need, security) {
        (Need::Device, _) if caller.pass.is_some() => Ok(()),
        (Need::Device, _) => Err(AccountError::unauthorized("Log in on a device first.")),
        (Need::Account, _) if caller.pass.is_some() || caller.is_operator() => Ok(()),
        (Need::Account, _) => Err(AccountError::unauthorized("Please login.")),
        (Need::Accounts, _) if caller.manages_accounts() => Ok(()),
        (Need::Accounts, _) => Err(AccountError::Missing),
        (Need::Oversee | Need::Audit | Need::Custody, _) if caller.oversees() => Ok(()),
        (Need::AuditWhole, _) if caller.is_operator() || caller.audits() => Ok(()),
        (Need::Oversee | Need::Audit | Need::AuditWhole, _) => Err(AccountError::Missing),
        (Need::Operate, _) if caller.is_operator() => Ok(()),
        (Need::Operate, _) => Err(AccountError::not_server_admin()),
        (_, None) => Ok(()),
        (Need::Manage, Some(security)) => {
            security.require_member(name, &caller.roles)?;
            security.require_admin(name, &caller.roles)
        }
        (Need::Upkeep, Some(security)) => {
            security.require_member(name, &caller.roles)?;
            security.require_admin_for_upkeep(name, &caller.roles)
        }
        (Need::Anyone, Some(_)) => Ok(()),
        (Need::Push | Need::Feed | Need::Pull | Need::Edit | Need::Custody, Some(security)) => {
            security.require_member(name, &caller.roles)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: Option<&str>, roles: &[&str]) -> Caller {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        Caller { name: name.map(str::to_owned), roles, ..Caller::anonymous() }
    }

    #[test]
    fn who_may_have_what() {
        let closed = Security::default();
        let open = Security::parse("{}").expect("valid");
        let ours = Security::parse(r#"{"members":{"roles":["chw"]},"admins":{"names":["boss"]}}"#).expect("valid");
        let status = |need, caller: &Caller, security| permit(need, caller, security).err().map(|error| error.status());
        let (nobody, chw, boss) = (caller(None, &[]), caller(Some("ann"), &["chw"]), caller(Some("boss"), &[]));
        let operator = caller(Some("root"), &["_admin"]);
        for need in [Need::Push, Need::Feed, Need::Pull, Need::Edit] {
            assert_eq!(status(need, &nobody, Some(&closed)), Some(401));
            assert_eq!(status(need, &chw, Some(&closed)), Some(403));
            assert_eq!(status(need, &nobody, Some(&open)), None);
            assert_eq!(status(need, &chw, Some(&ours)), None);
            assert_eq!(status(need, &operator, Some(&closed)), None);
        }
        assert_eq!(status(Need::Manage, &chw, Some(&ours)), Some(403));
        assert_eq!(status(Need::Upkeep, &chw, Some(&ours)), Some(401));
        assert_eq!(status(Need::Manage, &boss, Some(&ours)), None);
        assert_eq!(status(Need::Operate, &boss, Some(&ours)), Some(401));
        assert_eq!(status(Need::Operate, &operator, None), None);
        assert_eq!(status(Need::Audit, &boss, None), Some(404));
        let (auditor, manager) = (caller(Some("eve"), &["auditor"]), caller(Some("meg"), &["account_admin"]));
        for (need, of_auditor, of_manager) in [
            (Need::Audit, None, None),
            (Need::AuditWhole, None, Some(404)),
            (Need::Oversee, None, None),
            (Need::Accounts, Some(404), None),
            (Need::Operate, Some(401), Some(401)),
        ] {
            assert_eq!(status(need, &operator, None), None, "{need:?}");
            assert_eq!(status(need, &auditor, None), of_auditor, "{need:?}");
            assert_eq!(status(need, &manager, None), of_manager, "{need:?}");
            assert!(status(need, &chw, None).is_some(), "{need:?}");
        }
        for (caller, custody) in [(&auditor, None), (&manager, None), (&chw, None), (&boss, None), (&nobody, Some(401))]
        {
            assert_eq!(status(Need::Custody, caller, Some(&ours)), custody);
            assert_eq!(status(Need::Pull, &auditor, Some(&ours)), Some(403), "no document by it");
        }
        assert_eq!(status(Need::Anyone, &nobody, Some(&closed)), None);
    }
}
