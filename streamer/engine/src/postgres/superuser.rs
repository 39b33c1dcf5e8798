//! The name of a superuser of a restored copy. Most clusters have `postgres`; who made one with another name has not told
//! us, and only single-user mode needs none.

use std::io::{Read, Write};
use std::process::Stdio;

use hardstorage_report::{Error, Result, code};

use super::server::Place;

/// The superuser that most clusters have.
pub(crate) const USUAL_USER: &str = "postgres";

/// The name in the answer of single-user mode: `1: rolname = "alice" (typeid = 19, ...)`.
fn parse(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("rolname = \"")?;
    let (name, _) = rest.rsplit_once("\"\t(typeid").or_else(|| rest.split_once('"'))?;
    Some(name.to_owned())
}

impl Place {
    /// The name of the superuser that `initdb` made. No server may run.
    pub(crate) fn superuser(&self, settings: &[String]) -> Result<String> {
        let io = |error: std::io::Error| Error::new(code::engine::PROGRAMS, "run postgres --single").source(error);
        let mut command = self.programs.command("postgres", Some(&self.data))?;
        command.arg("--single").arg("-D").arg(&self.data);
        command.args(settings.iter().flat_map(|setting| ["-c", setting.as_str()]));
        command.arg("template1");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().map_err(io)?;
        if let Some(mut stdin) = child.stdin.take() {
            let query = b"SELECT rolname FROM pg_authid WHERE oid = 10\n";
            stdin.write_all(query).map_err(io)?;
        }
        let mut text = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut text).map_err(io)?;
        }
        child.wait().map_err(io)?;
        parse(&text).ok_or_else(|| {
            Error::new(
                code::engine::RESTORE_TEST,
                "the restored copy does not tell the name of its superuser",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_superuser_is_found_in_what_single_user_mode_says() {
        let text = "\nPostgreSQL stand-alone backend 18.0\nbackend> \t 1: rolname\t(typeid = 19, len = 64, typmod = -1, \
                    byval = f)\n\t----\n\t 1: rolname = \"al\"ice\"\t(typeid = 19, len = 64, typmod = -1, byval = f)\n\t----\n";
        assert_eq!(parse(text).as_deref(), Some("al\"ice"));
        assert_eq!(parse("backend> "), None);
    }
}
