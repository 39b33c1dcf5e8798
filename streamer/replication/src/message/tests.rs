//! Messages as servers send them, and as they never would.

use super::*;
use proptest::prelude::*;

fn decode(tag: u8, body: &[u8]) -> Result<Message> {
    Message::decode(tag, Bytes::copy_from_slice(body))
}

#[test]
fn the_two_that_other_parsers_do_not_know() {
    assert_eq!(decode(b'W', &[0, 0, 0]).unwrap(), Message::CopyBothResponse);
    assert_eq!(
        decode(b'v', b"\x00\x03\x00\x00\x00\x00\x00\x01_pq_.x\x00").unwrap(),
        Message::NegotiateProtocolVersion {
            newest: 0x3_0000,
            unrecognized: vec!["_pq_.x".to_owned()]
        }
    );
}

#[test]
fn authentication_steps() {
    let step = |body: &[u8]| match decode(b'R', body).unwrap() {
        Message::Authentication(step) => step,
        other => panic!("{other:?}"),
    };
    assert_eq!(step(&[0, 0, 0, 0]), Authentication::Ok);
    assert_eq!(
        step(&[0, 0, 0, 5, 1, 2, 3, 4]),
        Authentication::Md5Password { salt: [1, 2, 3, 4] }
    );
    assert_eq!(
        step(b"\x00\x00\x00\x0aSCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"),
        Authentication::Sasl {
            mechanisms: vec!["SCRAM-SHA-256-PLUS".to_owned(), "SCRAM-SHA-256".to_owned()]
        }
    );
    assert_eq!(step(&[0, 0, 0, 7]), Authentication::Unsupported(7));
    assert!(decode(b'R', &[0, 0, 0, 5, 1, 2, 3]).is_err());
}

#[test]
fn a_row_with_null_and_an_empty_value() {
    let row = decode(b'D', b"\x00\x03\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x02ab").unwrap();
    assert_eq!(
        row,
        Message::DataRow(vec![None, Some(Bytes::new()), Some(Bytes::from_static(b"ab"))])
    );
    assert!(decode(b'D', b"\x00\x01\xff\xff\xff\xfe").is_err());
    assert!(decode(b'D', b"\x00\x01\x00\x00\x00\x03ab").is_err());
}

#[test]
fn trailing_bytes_are_refused() {
    assert!(decode(b'c', b"x").is_err());
    assert!(decode(b'Z', b"II").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_answered(tag in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(tag, &body);
    }
}
