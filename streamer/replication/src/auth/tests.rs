//! Logins against golden vectors and scripted servers.
