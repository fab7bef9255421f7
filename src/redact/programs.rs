//! Programs that take a secret on their command line by an option of one letter, or by its place.

/// A program's one-letter options that take a secret, and whether it may be attached (`-pSECRET`).
pub(super) struct Program {
    pub(super) names: &'static [&'static str],
    pub(super) options: &'static [&'static str],
    pub(super) attached: bool,
}

const fn program(
    names: &'static [&'static str],
    options: &'static [&'static str],
    attached: bool,
) -> Program {
    Program { names, options, attached }
}

/// Without an attached password these ask for one.
pub(super) const ARCHIVERS: &[&str] = &["7z", "7za", "7zr", "7zz", "rar", "unrar"];

pub(super) const PROGRAMS: &[Program] = &[
    program(&["iggy-bench"], &["-p"], true),
    program(&["iggy", "iggy-cli", "iggy-server", "iggy-connectors", "iggy-mcp"], &["-p", "-t"], true),
    program(
        &["mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlcheck", "mysqlslap", "mariadb"],
        &["-p"],
        true,
    ),
    program(
        &["mariadb-dump", "mariadb-admin", "mariabackup", "xtrabackup", "innobackupex", "mycli"],
        &["-p"],
        true,
    ),
    program(&["useradd", "usermod"], &["-p"], false),
    program(&["sshpass"], &["-p"], true),
    program(&["redis-cli", "valkey-cli", "keydb-cli", "redis-benchmark"], &["-a"], false),
    program(&["mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"], &["-p"], false),
    program(&["cqlsh", "rabbitmqadmin", "nodetool", "evil-winrm", "nxc", "crackmapexec"], &["-p"], false),
    program(
        &["ldapsearch", "ldapmodify", "ldapadd", "ldapwhoami", "ldapdelete", "ldappasswd"],
        &["-w", "-s"],
        false,
    ),
    program(&["sqlcmd", "bcp", "isql", "tsql", "fisql"], &["-P"], true),
    program(&["ipmitool", "ipmipower", "ipmi-sensors"], &["-P", "-p"], false),
    // `docker login -p`: elsewhere docker's -p is a port.
    program(&["login"], &["-p"], false),
    program(ARCHIVERS, &["-p", "-P"], true),
    program(&["zip", "unzip", "zipcloak"], &["-P"], true),
    program(&["curl", "http", "https", "xh", "hey", "wrk"], &["-u", "-U", "-a"], true),
    program(&["ab"], &["-A", "-P"], false),
    program(&["smbclient", "rpcclient", "smbget", "net", "winexe", "wmic"], &["-U"], true),
    program(&["lftp", "ncftp", "ncftpput", "ncftpget"], &["-u", "-p"], true),
    program(&["openssl"], &["-k", "-K"], false),
    program(&["ssh-keygen"], &["-N", "-P"], false),
    program(&["mosquitto_pub", "mosquitto_sub", "mosquitto_rr"], &["-P"], false),
    program(
        &["snmpget", "snmpwalk", "snmpset", "snmpbulkwalk", "snmpbulkget", "snmptrap"],
        &["-c", "-A", "-X"],
        false,
    ),
    program(&["xfreerdp", "wfreerdp", "rdesktop"], &["-p", "/p"], false),
    program(&["gpg-preset-passphrase"], &["-P"], false),
    program(&["restic", "kopia"], &[], false),
];

/// Words after which a secret has a fixed place.
pub(super) struct Positional {
    pub(super) words: &'static str,
    pub(super) place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// So many words that are no options stand before it.
    After(usize),
    /// `htpasswd -b FILE USER PASSWORD`, `htpasswd -nb USER PASSWORD`.
    Htpasswd,
    /// `user/password@database`.
    Oracle,
    /// `name=value`, attached.
    Literal,
}

const fn positional(words: &'static str, place: Place) -> Positional {
    Positional { words, place }
}

pub(super) const POSITIONAL: &[Positional] = &[
    positional("htpasswd ", Place::Htpasswd),
    positional(" alias set ", Place::After(3)),
    positional(" config host add ", Place::After(3)),
    positional(" admin user add ", Place::After(2)),
    positional("add_user ", Place::After(1)),
    positional("change_password ", Place::After(1)),
    positional("authenticate_user ", Place::After(1)),
    positional("vault login ", Place::After(0)),
    positional("wpa_passphrase ", Place::After(1)),
    positional("openssl passwd ", Place::After(0)),
    positional("reset-admin-password ", Place::After(0)),
    positional("sqlplus ", Place::Oracle),
    positional("expdp ", Place::Oracle),
    positional("impdp ", Place::Oracle),
    positional("rman target ", Place::Oracle),
    positional("--from-literal=", Place::Literal),
];
