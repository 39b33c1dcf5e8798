//! The wire over streams that give and take bytes as they like.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes};
use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;

/// Gives its pieces one read at a time with a pause between, and takes a few bytes with each write.
struct Pieces {
    input: VecDeque<Vec<u8>>,
    pause: bool,
    output: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    write_error: bool,
}

impl Pieces {
    fn new(input: impl IntoIterator<Item = Vec<u8>>) -> Pieces {
        Pieces {
            input: input.into_iter().collect(),
            pause: false,
            output: std::sync::Arc::default(),
            write_error: false,
        }
    }

    fn pause(&mut self, cx: &mut Context<'_>) -> bool {
        self.pause = !self.pause;
        if self.pause {
            cx.waker().wake_by_ref();
        }
        self.pause
    }
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.pause(cx) {
            return Poll::Pending;
        }
        if let Some(mut piece) = self.input.pop_front() {
            let rest = piece.split_off(piece.len().min(out.remaining()));
            out.put_slice(&piece);
            if !rest.is_empty() {
                self.input.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.pause(cx) {
            return Poll::Pending;
        }
        if self.write_error {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(3);
        self.output.lock().unwrap().extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.put_u32(body.len() as u32 + 4);
    out.put_slice(body);
    out
}

fn split(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}

#[tokio::test]
async fn every_split_gives_the_same_messages() {
    let mut bytes = message(b'S', b"server_version\x0018.6\0");
    bytes.extend(message(b'd', &[7; 40]));
    bytes.extend(message(b'N', b"VWARNING\0C01000\0Mcareful\0\0"));
    bytes.extend(message(b'c', b""));
    bytes.extend(message(b'Z', b"I"));
    for size in 1..bytes.len() {
        let mut wire = Wire::new(Box::new(Pieces::new(split(&bytes, &[size]))));
        assert_eq!(
            wire.recv().await.unwrap(),
            Message::CopyData(Bytes::from(vec![7; 40])),
            "{size}"
        );
        assert_eq!(wire.recv().await.unwrap(), Message::CopyDone);
        assert_eq!(wire.recv().await.unwrap(), Message::ReadyForQuery(b'I'));
        assert!(wire.recv().await.unwrap_err().is(code::replication::UNREACHABLE));
        assert_eq!(wire.parameters()["server_version"], "18.6");
        assert_eq!(wire.take_notices().0[0].message, "careful");
    }
}

#[tokio::test]
async fn a_dropped_recv_loses_nothing() {
    let bytes = message(b'd', b"0123456789");
    let mut wire = Wire::new(Box::new(Pieces::new(split(&bytes, &[1]))));
    let mut given_up = 0;
    let received = loop {
        tokio::select! {
            biased;
            message = wire.recv() => break message.unwrap(),
            () = std::future::ready(()) => given_up += 1,
        }
    };
    assert_eq!(received, Message::CopyData(Bytes::from_static(b"0123456789")));
    assert!(given_up >= bytes.len(), "{given_up}");
}

#[tokio::test]
async fn a_dropped_flush_writes_nothing_twice() {
    let pieces = Pieces::new([]);
    let written = pieces.output.clone();
    let mut wire = Wire::new(Box::new(pieces));
    wire.queue(b"0123456789");
    while wire.has_unsent() {
        tokio::select! {
            biased;
            () = wire.flush() => {}
            () = std::future::ready(()) => {}
        }
    }
    assert_eq!(*written.lock().unwrap(), b"0123456789");
}

#[tokio::test]
async fn a_failed_write_is_told_after_what_the_server_said() {
    let mut pieces = Pieces::new([message(b'E', b"VFATAL\0C57P01\0Mgoodbye\0\0")]);
    pieces.write_error = true;
    let mut wire = Wire::new(Box::new(pieces));
    wire.send(b"hello").await;
    assert!(matches!(wire.recv().await.unwrap(), Message::ErrorResponse(error) if error.sqlstate == "57P01"));
    let ended = wire.recv().await.unwrap_err();
    assert!(
        std::error::Error::source(&ended).unwrap().is::<io::Error>(),
        "{ended:?}"
    );
}

#[tokio::test]
async fn data_is_a_slice_of_the_read_buffer() {
    let mut bytes = message(b'd', &[1; 1000]);
    bytes.extend(message(b'd', &[2; 1000]));
    let mut wire = Wire::new(Box::new(Pieces::new([bytes])));
    let Message::CopyData(first) = wire.recv().await.unwrap() else {
        panic!("no data");
    };
    let Message::CopyData(second) = wire.recv().await.unwrap() else {
        panic!("no data");
    };
    assert_eq!(second.as_ptr() as usize - first.as_ptr() as usize, 1005);
}

#[tokio::test]
async fn buffers_are_used_again_although_slices_of_them_wait_in_a_queue() {
    let pieces = (0..2_000).map(|n| message(b'd', &vec![n as u8; 50_000]));
    let mut wire = Wire::new(Box::new(Pieces::new(pieces)));
    let mut queue = VecDeque::new();
    for n in 0..2_000 {
        let Message::CopyData(data) = wire.recv().await.unwrap() else {
            panic!("no data");
        };
        queue.push_back((n as u8, data));
        if queue.len() > 20 {
            // What waited was not written over.
            let (expected, data) = queue.pop_front().unwrap();
            assert!(data.len() == 50_000 && data.iter().all(|byte| *byte == expected));
        }
    }
    // 100 MB went through; about a megabyte of it was held at any time.
    assert!((4..=10).contains(&wire.allocated), "{}", wire.allocated);
}

#[tokio::test]
async fn a_consumer_that_holds_everything_gets_new_buffers_and_few_are_kept() {
    let pieces = (0..200).map(|_| message(b'd', &vec![1; 200_000]));
    let mut wire = Wire::new(Box::new(Pieces::new(pieces)));
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(wire.recv().await.unwrap());
    }
    assert!(wire.allocated >= 150, "{}", wire.allocated);
    assert_eq!(wire.retired.len(), MAX_RETIRED);
}

#[test]
fn lengths_are_bounded_by_kind() {
    let at = |tag, length: u32| header(&[&[tag][..], &length.to_be_bytes()].concat());
    assert_eq!(at(b'd', 4).unwrap(), Some((b'd', 0)));
    assert_eq!(header(b"d\0\0\0").unwrap(), None);
    for (tag, length) in [
        (b'd', 3),
        (b'd', MAX_LONG as u32 + 5),
        (b'd', u32::MAX),
        (b'C', MAX_SHORT as u32 + 5),
        (b'R', 1 << 20),
    ] {
        assert!(
            at(tag, length).unwrap_err().is(code::replication::PROTOCOL),
            "{tag} {length}"
        );
    }
    assert!(at(b'd', MAX_LONG as u32 + 4).is_ok() && at(b'C', MAX_SHORT as u32 + 4).is_ok());
}

proptest! {
    #[test]
    fn any_data_in_any_pieces_comes_out_as_it_went_in(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..20),
        sizes in proptest::collection::vec(1usize..5000, 1..10),
    ) {
        let bytes: Vec<u8> = bodies.iter().flat_map(|body| message(b'd', body)).collect();
        let mut wire = Wire::new(Box::new(Pieces::new(split(&bytes, &sizes))));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for body in bodies {
                prop_assert_eq!(wire.recv().await.unwrap(), Message::CopyData(Bytes::from(body)));
            }
            Ok(())
        })?;
    }
}
