//! Every route, its methods and its need: the API on one screen.
//!
//! A route is found by its shape: literals, a database, a document id (which never begins with `_`), one name, or the rest
//! of the path. The first line that fits wins.

use crate::access::need::Need;

/// A piece of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Lit(&'static str),
    Db,
    Id,
    Name,
    Rest,
}
use Part::{Db, Id, Lit, Name, Rest};

/// What a request is about. `…NotYet` endpoints exist in CouchDB and answer 501 here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Welcome,
    Up,
    Uuids,
    SessionInfo,
    LogIn,
    LogOut,
    OwnDevice,
    TellOfDevice,
    ReportWipe,
    ListDevices,
    ReadDevice,
    DeviceExposure,
    RetireDevice,
    CutDevice,
    WipeDevice,
    HandoverKey,
    ChangePassword,
    DisableAccount,
    EnableAccount,
    RetireAccount,
    CutAccount,
    ListGrants,
    MakeGrant,
    RevokeGrant,
    ListAccounts,
    CreateAccount,
    BulkAccounts,
    PrintSheet,
    ReadAccount,
    ReachOfAccount,
    ChangeAccount,
    PutAccount,
    DeleteAccount,
    MakeLink,
    ListOutbox,
    RetryMessage,
    CancelMessage,
    ShowLink,
    UseLink,
    AllDatabases,
    DatabasesInfo,
    ActiveTasks,
    Membership,
    NodeName,
    NodeFacts,
    Metrics,
    ReadConfig,
    WriteConfig,
    ReloadConfig,
    ClusterSetup,
    Backup,
    ConfirmRestore,
    LostReceipts,
    ReadAudit,
    VerifyAudit,
    Confirmations,
    BreakGlass,
    BrokenGlass,
    EndGlass,
    Console,
    ConsoleElsewhere,
    ServerNotYet,
    DatabaseInfo,
    CreateDatabase,
    DeleteDatabase,
    PostDocument,
    Changes,
    RevsDiff,
    MissingRevs,
    BulkDocs,
    BulkGet,
    EnsureFullCommit,
    AllDocs,
    AllDocsQueries,
    DesignDocs,
    DesignDocsQueries,
    LocalDocs,
    LocalDocsQueries,
    ReadSecurity,
    WriteSecurity,
    ReadRevsLimit,
    WriteRevsLimit,
    Compact,
    CompactView,
    ViewCleanup,
    Purge,
    PurgedInfos,
    Manifest,
    ReadManifest,
    Reconcile,
    ListEscrow,
    ReadEscrow,
    DecideEscrow,
    MovePlace,
    ReplaceHolder,
    RenameHolder,
    HandOver,
    UndoReplace,
    ReadCustody,
    ReadPurgedInfosLimit,
    WritePurgedInfosLimit,
    TemporaryView,
    QueryNotYet,
    FunctionNotYet,
    ReadLocal,
    WriteLocal,
    DeleteLocal,
    LocalAttachment,
    ReadDesign,
    WriteDesign,
    DeleteDesign,
    CopyDesign,
    ReadDesignAttachment,
    WriteDesignAttachment,
    UnknownUnderDatabase,
    ReadDocument,
    WriteDocument,
    FormUpload,
    DeleteDocument,
    CopyDocument,
    ReadAttachment,
    WriteAttachment,
}

struct Route {
    endpoint: Endpoint,
    methods: &'static str,
    shape: &'static [Part],
    need: Need,
}

macro_rules! routes {
    ($($endpoint:ident $methods:literal [$($part:expr),*] $need:ident;)*) => {
        const ROUTES: &[Route] = &[$(Route {
            endpoint: Endpoint::$endpoint, methods: $methods, shape: &[$($part),*], need: Need::$need,
        }),*];
    };
}

routes! {
    Welcome               "GET"          []                                              Anyone;
    Up                    "GET"          [Lit("_up")]                                    Anyone;
    Uuids                 "GET"          [Lit("_uuids")]                                 Anyone;
    SessionInfo           "GET"          [Lit("_session")]                               Anyone;
    LogIn                 "POST"         [Lit("_session")]                               Anyone;
    LogOut                "DELETE"       [Lit("_session")]                               Anyone;
    OwnDevice             "GET"          [Lit("_device")]                                Device;
    TellOfDevice          "POST"         [Lit("_device")]                                Device;
    ReportWipe            "POST"         [Lit("_device"), Lit("wipe_reported")]          Device;
    ListDevices           "GET"          [Lit("_devices")]                               Oversee;
    ReadDevice            "GET"          [Lit("_devices"), Name]                         Oversee;
    DeviceExposure        "GET"          [Lit("_devices"), Name, Lit("exposure")]        Accounts;
    RetireDevice          "POST"         [Lit("_devices"), Name, Lit("retire")]          Accounts;
    CutDevice             "POST"         [Lit("_devices"), Name, Lit("cut")]             Accounts;
    WipeDevice            "POST"         [Lit("_devices"), Name, Lit("wipe")]            Accounts;
    HandoverKey           "GET"          [Lit("_handover"), Lit("key")]                  Anyone;
    ChangePassword        "POST"         [Lit("_accounts"), Name, Lit("password")]       Accounts;
    DisableAccount        "POST"         [Lit("_accounts"), Name, Lit("disable")]        Accounts;
    EnableAccount         "POST"         [Lit("_accounts"), Name, Lit("enable")]         Accounts;
    RetireAccount         "POST"         [Lit("_accounts"), Name, Lit("retire")]         Accounts;
    ListGrants            "GET"          [Lit("_grants")]                                Account;
    MakeGrant             "POST"         [Lit("_grants")]                                Account;
    RevokeGrant           "POST"         [Lit("_grants"), Name, Lit("revoke")]           Account;
    CutAccount            "POST"         [Lit("_accounts"), Name, Lit("cut")]            Accounts;
    ListAccounts          "GET"          [Lit("_accounts")]                              Oversee;
    CreateAccount         "POST"         [Lit("_accounts")]                              Accounts;
    BulkAccounts          "POST"         [Lit("_accounts"), Lit("_bulk")]                Accounts;
    PrintSheet            "POST"         [Lit("_accounts"), Lit("_sheet")]               Accounts;
    ReadAccount           "GET"          [Lit("_accounts"), Name]                        Oversee;
    ReachOfAccount        "GET"          [Lit("_accounts"), Name, Lit("reach")]          Oversee;
    PutAccount            "PUT"          [Lit("_accounts"), Name]                        Accounts;
    ChangeAccount         "PATCH"        [Lit("_accounts"), Name]                        Accounts;
    DeleteAccount         "DELETE"       [Lit("_accounts"), Name]                        Accounts;
    MakeLink              "POST"         [Lit("_accounts"), Name, Lit("link")]           Accounts;
    ListOutbox            "GET"          [Lit("_outbox")]                                Accounts;
    RetryMessage          "POST"         [Lit("_outbox"), Name, Lit("retry")]            Accounts;
    CancelMessage         "POST"         [Lit("_outbox"), Name, Lit("cancel")]           Accounts;
    ShowLink              "GET"          [Lit("_links"), Name]                           Anyone;
    UseLink               "POST"         [Lit("_links"), Name]                           Anyone;
    AllDatabases          "GET"          [Lit("_all_dbs")]                               Anyone;
    DatabasesInfo         "GET,POST"     [Lit("_dbs_info")]                              Operate;
    ActiveTasks           "GET"          [Lit("_active_tasks")]                          Operate;
    Membership            "GET"          [Lit("_membership")]                            Operate;
    ReloadConfig          "POST"         [Lit("_node"), Name, Lit("_config"), Lit("_reload")] Operate;
    ReadConfig            "GET"          [Lit("_node"), Name, Lit("_config")]            Operate;
    ReadConfig            "GET"          [Lit("_node"), Name, Lit("_config"), Name]      Operate;
    ReadConfig            "GET"          [Lit("_node"), Name, Lit("_config"), Name, Name] Operate;
    WriteConfig           "PUT,DELETE"   [Lit("_node"), Name, Lit("_config"), Name, Name] Operate;
    Metrics               "GET"          [Lit("_node"), Name, Lit("_prometheus")]        Operate;
    NodeFacts             "GET"          [Lit("_node"), Name, Lit("_stats"), Rest]       Operate;
    NodeFacts             "GET"          [Lit("_node"), Name, Name]                      Operate;
    NodeName              "GET"          [Lit("_node"), Name]                            Operate;
    Metrics               "GET"          [Lit("_metrics")]                               Operate;
    ClusterSetup          "GET"          [Lit("_cluster_setup")]                         Operate;
    Backup                "POST"         [Lit("_backup")]                                Operate;
    ConfirmRestore        "POST"         [Lit("_handover"), Lit("confirm_restore")]      Operate;
    LostReceipts          "GET"          [Lit("_handover"), Lit("lost_receipts")]        Oversee;
    ReadAudit             "GET"          [Lit("_audit")]                                 Audit;
    VerifyAudit           "GET"          [Lit("_audit"), Lit("verify")]                  AuditWhole;
    Confirmations         "GET"          [Lit("_confirmations")]                         Accounts;
    BreakGlass            "POST"         [Lit("_break_glass")]                           Operate;
    BrokenGlass           "GET"          [Lit("_break_glass")]                           AuditWhole;
    EndGlass              "DELETE"       [Lit("_break_glass"), Name]                     Operate;
    ServerNotYet          "GET,POST"     [Lit("_replicate")]                             Operate;
    ServerNotYet          "GET"          [Lit("_scheduler"), Rest]                       Operate;
    ServerNotYet          "GET"          [Lit("_db_updates")]                            Operate;
    Console               "GET,POST"     [Lit("_console")]                               Anyone;
    Console               "GET,POST"     [Lit("_console"), Rest]                         Anyone;
    ConsoleElsewhere      "GET"          [Lit("_utils")]                                 Anyone;
    ConsoleElsewhere      "GET"          [Lit("_utils"), Rest]                           Anyone;

    DatabaseInfo          "GET"          [Db]                                            Push;
    CreateDatabase        "PUT"          [Db]                                            Operate;
    DeleteDatabase        "DELETE"       [Db]                                            Operate;
    PostDocument          "POST"         [Db]                                            Edit;
    Changes               "GET,POST"     [Db, Lit("_changes")]                           Feed;
    RevsDiff              "POST"         [Db, Lit("_revs_diff")]                         Push;
    MissingRevs           "POST"         [Db, Lit("_missing_revs")]                      Push;
    BulkDocs              "POST"         [Db, Lit("_bulk_docs")]                         Push;
    Manifest              "POST"         [Db, Lit("_manifest")]                          Push;
    ReadManifest          "GET"          [Db, Lit("_manifest"), Name]                    Push;
    BulkGet               "POST"         [Db, Lit("_bulk_get")]                          Pull;
    EnsureFullCommit      "POST"         [Db, Lit("_ensure_full_commit")]                Push;
    AllDocs               "GET,POST"     [Db, Lit("_all_docs")]                          Pull;
    AllDocsQueries        "POST"         [Db, Lit("_all_docs"), Lit("queries")]          Pull;
    DesignDocs            "GET,POST"     [Db, Lit("_design_docs")]                       Pull;
    DesignDocsQueries     "POST"         [Db, Lit("_design_docs"), Lit("queries")]       Pull;
    LocalDocs             "GET,POST"     [Db, Lit("_local_docs")]                        Pull;
    LocalDocsQueries      "POST"         [Db, Lit("_local_docs"), Lit("queries")]        Pull;
    ReadSecurity          "GET"          [Db, Lit("_security")]                          Pull;
    WriteSecurity         "PUT"          [Db, Lit("_security")]                          Manage;
    ReadRevsLimit         "GET"          [Db, Lit("_revs_limit")]                        Pull;
    WriteRevsLimit        "PUT"          [Db, Lit("_revs_limit")]                        Manage;
    Compact               "POST"         [Db, Lit("_compact")]                           Upkeep;
    CompactView           "POST"         [Db, Lit("_compact"), Name]                     Upkeep;
    ViewCleanup           "POST"         [Db, Lit("_view_cleanup")]                      Upkeep;
    Purge                 "POST"         [Db, Lit("_purge")]                             Operate;
    PurgedInfos           "GET"          [Db, Lit("_purged_infos")]                      Pull;
    Reconcile             "POST"         [Db, Lit("_reconcile")]                         Pull;
    ListEscrow            "GET"          [Db, Lit("_escrow")]                            Pull;
    ReadEscrow            "GET"          [Db, Lit("_escrow"), Name]                      Pull;
    DecideEscrow          "POST"         [Db, Lit("_escrow"), Name, Name]                Edit;
    MovePlace             "POST"         [Db, Lit("_places"), Name, Lit("move")]         Edit;
    ReplaceHolder         "POST"         [Db, Lit("_places"), Name, Lit("replace")]      Accounts;
    RenameHolder          "POST"         [Db, Lit("_places"), Name, Lit("rename_holder")] Accounts;
    HandOver              "POST"         [Db, Lit("_places"), Name, Lit("hand_over")]    Accounts;
    UndoReplace           "POST"         [Db, Lit("_places"), Name, Lit("undo_replace")] Accounts;
    ReadCustody           "GET"          [Db, Lit("_custody"), Name]                     Custody;
    ReadPurgedInfosLimit  "GET"          [Db, Lit("_purged_infos_limit")]                Pull;
    WritePurgedInfosLimit "PUT"          [Db, Lit("_purged_infos_limit")]                Operate;
    TemporaryView         "GET,POST"     [Db, Lit("_temp_view")]                         Pull;
    QueryNotYet           "POST"         [Db, Lit("_find")]                              Pull;
    QueryNotYet           "POST"         [Db, Lit("_explain")]                           Pull;
    QueryNotYet           "GET,POST"     [Db, Lit("_index")]                             Pull;
    QueryNotYet           "POST,DELETE"  [Db, Lit("_index"), Rest]                       Pull;
    QueryNotYet           "GET,POST"     [Db, Lit("_partition"), Rest]                   Pull;
    ReadLocal             "GET"          [Db, Lit("_local"), Name]                       Push;
    WriteLocal            "PUT,POST"     [Db, Lit("_local"), Name]                       Push;
    DeleteLocal           "DELETE"       [Db, Lit("_local"), Name]                       Edit;
    LocalAttachment       "GET,PUT,DELETE" [Db, Lit("_local"), Name, Rest]               Edit;
    FunctionNotYet        "GET,POST"     [Db, Lit("_design"), Name, Lit("_view"), Rest]  Pull;
    FunctionNotYet        "GET"          [Db, Lit("_design"), Name, Lit("_info")]        Pull;
    FunctionNotYet        "GET,POST"     [Db, Lit("_design"), Name, Lit("_show"), Rest]  Pull;
    FunctionNotYet        "GET,POST"     [Db, Lit("_design"), Name, Lit("_list"), Rest]  Pull;
    FunctionNotYet        "PUT,POST"     [Db, Lit("_design"), Name, Lit("_update"), Rest] Edit;
    FunctionNotYet        "GET,POST,PUT,DELETE" [Db, Lit("_design"), Name, Lit("_rewrite"), Rest] Pull;
    FunctionNotYet        "GET,POST"     [Db, Lit("_design"), Name, Lit("_search"), Rest] Pull;
    FunctionNotYet        "GET,POST"     [Db, Lit("_design"), Name, Lit("_nouveau"), Rest] Pull;
    ReadDesign            "GET"          [Db, Lit("_design"), Name]                      Pull;
    WriteDesign           "PUT"          [Db, Lit("_design"), Name]                      Manage;
    DeleteDesign          "DELETE"       [Db, Lit("_design"), Name]                      Manage;
    CopyDesign            "COPY"         [Db, Lit("_design"), Name]                      Edit;
    ReadDesignAttachment  "GET"          [Db, Lit("_design"), Name, Rest]                Pull;
    WriteDesignAttachment "PUT,DELETE"   [Db, Lit("_design"), Name, Rest]                Manage;
    ReadDocument          "GET"          [Db, Id]                                        Pull;
    WriteDocument         "PUT"          [Db, Id]                                        Edit;
    FormUpload            "POST"         [Db, Id]                                        Edit;
    DeleteDocument        "DELETE"       [Db, Id]                                        Edit;
    CopyDocument          "COPY"         [Db, Id]                                        Edit;
    ReadAttachment        "GET"          [Db, Id, Rest]                                  Pull;
    WriteAttachment       "PUT,DELETE"   [Db, Id, Rest]                                  Edit;
    UnknownUnderDatabase  "GET,POST,PUT,DELETE,COPY" [Db, Rest]                          Pull;
}

impl Part {
    fn fits(self, segment: &str) -> bool {
        match self {
            Lit(literal) => literal == segment,
            // `/_x` that no line above knows is looked up like a database, as CouchDB does.
            Db | Name | Rest => true,
            Id => !segment.starts_with('_'),
        }
    }
}

impl Route {
    fn fits(&self, segments: &[String]) -> bool {
        let long_enough = match self.shape.last() {
            Some(Rest) => segments.len() >= self.shape.len(),
            _ => segments.len() == self.shape.len(),
        };
        // From behind: below a database the last part tells routes apart.
        long_enough && self.shape.iter().zip(segments).rev().all(|(part, segment)| part.fits(segment))
    }
}

/// What a path and method mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This endpoint, with its need.
    Endpoint(Endpoint, Need),
    /// The path exists, the method does not; these do.
    WrongMethod(String),
}

/// Finds the endpoint. `method` is `GET` for a `HEAD`.
#[must_use]
pub fn find(method: &str, segments: &[String]) -> Found {
    let mut allowed: Vec<&str> = Vec::new();
    let mut shape: Option<&[Part]> = None;
    for route in ROUTES.iter().filter(|route| route.fits(segments)) {
        if shape.is_some_and(|shape| shape != route.shape) {
            break; // a more general line does not speak for a path that a special one knows
        }
        if route.methods.split(',').any(|known| known == method) {
            return Found::Endpoint(route.endpoint, route.need);
        }
        shape = Some(route.shape);
        allowed.extend(route.methods.split(','));
    }
    if let Some(fixed) = shape.and_then(couchdb_names) {
        return Found::WrongMethod(fixed.to_owned());
    }
    let mut names: Vec<&str> = Vec::new();
    if allowed.contains(&"GET") {
        names.extend(["GET", "HEAD"]);
    }
    names.extend(allowed.into_iter().filter(|name| *name != "GET"));
    Found::WrongMethod(names.join(","))
}

/// Where CouchDB names methods in an order, or a number, of its own (recordings `methods`).
fn couchdb_names(shape: &[Part]) -> Option<&'static str> {
    match shape {
        [Db] => Some("DELETE,GET,HEAD,POST"),
        [Db, Id] | [Db, Lit("_design" | "_local"), Name] => Some("DELETE,GET,HEAD,POST,PUT,COPY"),
        [Db, Id, Rest] | [Db, Lit("_design"), Name, Rest] => Some("DELETE,GET,HEAD,PUT"),
        [Lit("_uuids")] => Some("GET"),
        _ => None,
    }
}

/// Listings and feeds: in `_users` they are for administrators, whoever else is a member.
#[must_use]
pub fn is_listing(endpoint: Endpoint) -> bool {
    use Endpoint::{AllDocs, AllDocsQueries, Changes, DesignDocs, DesignDocsQueries, LocalDocs, LocalDocsQueries};
    matches!(
        endpoint,
        AllDocs | AllDocsQueries | Changes | DesignDocs | DesignDocsQueries | LocalDocs | LocalDocsQueries
    )
}

/// What reads whole ranges of what a restricted caller sees.
#[must_use]
pub fn reads_ranges(endpoint: Endpoint) -> bool {
    is_listing(endpoint) || endpoint == Endpoint::DatabaseInfo
}

/// Edits of documents. Whoever sees no document makes none, whatever is stored.
#[must_use]
pub fn is_document_edit(endpoint: Endpoint) -> bool {
    use Endpoint::{
        CopyDesign, CopyDocument, DeleteDocument, FormUpload, PostDocument, WriteAttachment, WriteDocument,
    };
    matches!(
        endpoint,
        CopyDesign | CopyDocument | DeleteDocument | FormUpload | PostDocument | WriteAttachment | WriteDocument
    )
}

/// What is asked about a database and not about its documents, although it is read like them.
#[must_use]
pub fn is_about_database(endpoint: Endpoint) -> bool {
    use Endpoint::{ReadPurgedInfosLimit, ReadRevsLimit, ReadSecurity};
    matches!(endpoint, ReadPurgedInfosLimit | ReadRevsLimit | ReadSecurity)
}

/// Every line of the table: methods, shape, need. For the golden list in the tests.
#[must_use]
pub fn table() -> Vec<(String, String, Need)> {
    let part = |part: &Part| match part {
        Lit(literal) => (*literal).to_owned(),
        Db => "{db}".to_owned(),
        Id => "{id}".to_owned(),
        Name => "{name}".to_owned(),
        Rest => "{rest…}".to_owned(),
    };
    let shape = |route: &Route| format!("/{}", route.shape.iter().map(part).collect::<Vec<_>>().join("/"));
    ROUTES.iter().map(|route| (route.methods.to_owned(), shape(route), route.need)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(method: &str, path: &str) -> Found {
        let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        find(method, &segments)
    }

    #[test]
    fn paths_find_their_line() {
        for (method, path, endpoint, need) in [
            ("GET", "/", Endpoint::Welcome, Need::Anyone),
            ("POST", "/db/_bulk_docs", Endpoint::BulkDocs, Need::Push),
            ("GET", "/db/_changes", Endpoint::Changes, Need::Feed),
            ("GET", "/db/doc/a/b.jpg", Endpoint::ReadAttachment, Need::Pull),
            ("PUT", "/db/_design/x", Endpoint::WriteDesign, Need::Manage),
            ("GET", "/db/_design/x/_view/y", Endpoint::FunctionNotYet, Need::Pull),
            ("GET", "/db/_design/x/logo.png", Endpoint::ReadDesignAttachment, Need::Pull),
            ("PUT", "/db/_local/x", Endpoint::WriteLocal, Need::Push),
            ("GET", "/db/_nosuch", Endpoint::UnknownUnderDatabase, Need::Pull),
            ("PUT", "/_nosuch", Endpoint::CreateDatabase, Need::Operate),
            ("GET", "/_node/_local/_config/cors", Endpoint::ReadConfig, Need::Operate),
        ] {
            assert_eq!(at(method, path), Found::Endpoint(endpoint, need), "{method} {path}");
        }
    }

    #[test]
    fn wrong_methods_are_told_the_right_ones() {
        assert_eq!(at("PATCH", "/_session"), Found::WrongMethod("GET,HEAD,POST,DELETE".into()));
        assert_eq!(at("GET", "/db/_bulk_docs"), Found::WrongMethod("POST".into()));
        assert_eq!(at("POST", "/_active_tasks"), Found::WrongMethod("GET,HEAD".into()));
    }
}
