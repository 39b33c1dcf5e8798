//! HKDF-SHA256: one key in, any number of independent keys out.

use crate::Secret;

/// Derives a key. `salt` and `info` together name its one purpose.
pub fn derive(key: &Secret, salt: &[u8], info: &[u8]) -> Secret {
    let mut out = [0u8; 32];
    let expanded = hkdf::Hkdf::<sha2::Sha256>::new(Some(salt), key.expose()).expand(info, &mut out);
    // Fails only beyond 255 blocks; we ask for one.
    debug_assert!(expanded.is_ok());
    Secret::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_salt_and_by_info() {
        let key = Secret::new([7; 32]);
        let a = derive(&key, b"salt", b"info");
        assert_eq!(a.expose(), derive(&key, b"salt", b"info").expose());
        assert_ne!(a.expose(), derive(&key, b"salt", b"other").expose());
        assert_ne!(a.expose(), derive(&key, b"other", b"info").expose());
    }
}
