//! The keywords of a connection string: every one that libpq 18 knows, its environment variable, and what we do with it.
//!
//! A keyword is used, accepted without effect (it cannot change what happens here), or refused with a reason. Nothing
//! that asks for protection is ever ignored: what we do not check, we refuse.

/// What happens with a keyword that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// It has libpq's meaning.
    Used,
    /// It is read and changes nothing.
    Ignored,
    /// It would have to change something that we do not do.
    Refused(&'static str),
}

/// One keyword.
#[derive(Debug)]
pub(crate) struct Keyword {
    pub(crate) name: &'static str,
    pub(crate) variable: Option<&'static str>,
    pub(crate) support: Support,
}

const fn used(name: &'static str, variable: &'static str) -> Keyword {
    Keyword {
        name,
        variable: Some(variable),
        support: Support::Used,
    }
}

const fn plain(name: &'static str) -> Keyword {
    Keyword {
        name,
        variable: None,
        support: Support::Used,
    }
}

const fn ignored(name: &'static str, variable: Option<&'static str>) -> Keyword {
    Keyword {
        name,
        variable,
        support: Support::Ignored,
    }
}

const fn refused(name: &'static str, variable: Option<&'static str>, why: &'static str) -> Keyword {
    Keyword {
        name,
        variable,
        support: Support::Refused(why),
    }
}

/// In the order in which a connection string is written out.
pub(crate) const KEYWORDS: &[Keyword] = &[
    used("host", "PGHOST"),
    used("hostaddr", "PGHOSTADDR"),
    used("port", "PGPORT"),
    used("dbname", "PGDATABASE"),
    used("user", "PGUSER"),
    used("password", "PGPASSWORD"),
    used("passfile", "PGPASSFILE"),
    used("application_name", "PGAPPNAME"),
    plain("fallback_application_name"),
    used("options", "PGOPTIONS"),
    used("connect_timeout", "PGCONNECT_TIMEOUT"),
    used("target_session_attrs", "PGTARGETSESSIONATTRS"),
    used("channel_binding", "PGCHANNELBINDING"),
    used("sslmode", "PGSSLMODE"),
    used("sslnegotiation", "PGSSLNEGOTIATION"),
    used("sslrootcert", "PGSSLROOTCERT"),
    used("sslcert", "PGSSLCERT"),
    used("sslkey", "PGSSLKEY"),
    used("sslcertmode", "PGSSLCERTMODE"),
    used("sslsni", "PGSSLSNI"),
    used("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    used("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    plain("keepalives"),
    plain("keepalives_idle"),
    plain("keepalives_interval"),
    plain("keepalives_count"),
    plain("tcp_user_timeout"),
    used("gssencmode", "PGGSSENCMODE"),
    used("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    used("min_protocol_version", "PGMINPROTOCOLVERSION"),
    // We speak 3.0 whatever the limit; the text of a walsender connection is always UTF8; whether it is a
    // replication connection is not for the string to say; the others matter only with GSSAPI or old servers.
    ignored("max_protocol_version", Some("PGMAXPROTOCOLVERSION")),
    ignored("client_encoding", Some("PGCLIENTENCODING")),
    ignored("replication", None),
    ignored("sslcompression", Some("PGSSLCOMPRESSION")),
    ignored("krbsrvname", Some("PGKRBSRVNAME")),
    ignored("gsslib", Some("PGGSSLIB")),
    ignored("gssdelegation", Some("PGGSSDELEGATION")),
    ignored("servicefile", None),
    refused(
        "service",
        Some("PGSERVICE"),
        "connection service files are not read; write host, port and user out",
    ),
    refused(
        "sslpassword",
        None,
        "an encrypted client key cannot be opened; use a key without passphrase and mode 0600",
    ),
    refused(
        "sslcrl",
        Some("PGSSLCRL"),
        "certificate revocation lists are not checked",
    ),
    refused(
        "sslcrldir",
        Some("PGSSLCRLDIR"),
        "certificate revocation lists are not checked",
    ),
    refused("sslkeylogfile", None, "TLS secrets are never written to a file"),
    refused(
        "requirepeer",
        Some("PGREQUIREPEER"),
        "the owner of the server process is not checked",
    ),
    refused(
        "require_auth",
        Some("PGREQUIREAUTH"),
        "the method cannot be chosen; channel_binding=require enforces SCRAM with channel binding",
    ),
    refused("scram_client_key", None, "only a password can be used"),
    refused("scram_server_key", None, "only a password can be used"),
    refused("oauth_issuer", None, "OAuth is not supported"),
    refused("oauth_client_id", None, "OAuth is not supported"),
    refused("oauth_client_secret", None, "OAuth is not supported"),
    refused("oauth_scope", None, "OAuth is not supported"),
];

/// The keyword of that name. Names are case-sensitive, as in libpq.
pub(crate) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

/// The known keyword that is nearest to a mistyped one, if any is near.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    KEYWORDS
        .iter()
        .map(|keyword| (distance(name, keyword.name), keyword.name))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, name)| name)
}

/// The number of single-character edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(40).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let best = (diagonal + usize::from(from != *to)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_keyword_finds_its_neighbour() {
        assert_eq!(nearest("sslmod"), Some("sslmode"));
        assert_eq!(nearest("usr"), Some("user"));
        assert_eq!(nearest("hots"), Some("host"));
        assert_eq!(nearest("something_else"), None);
    }

    #[test]
    fn names_and_variables_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for keyword in KEYWORDS {
            assert!(seen.insert(keyword.name));
            assert!(keyword.variable.is_none_or(|variable| seen.insert(variable)));
        }
    }
}
