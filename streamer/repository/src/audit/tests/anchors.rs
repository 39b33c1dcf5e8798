//! Anchors: signed, on paper, in another repository, and the receipts of them.

use super::*;

proptest! {
    #[test]
    fn a_slip_in_a_typed_anchor_is_found(at in 0usize..79, to in "[0-9a-f]") {
        let text = paper().text();
        prop_assert_eq!(text.len(), 79);
        let mut slip = text.clone();
        slip.replace_range(at..=at, &to);
        if slip != text {
            prop_assert!(PaperAnchor::parse(&slip).unwrap_err().is(code::repository::ANCHOR_MALFORMED));
        }
    }

    #[test]
    fn any_text_is_answered(text in ".{0,200}") {
        prop_assert!(PaperAnchor::parse(&text).is_err() && Anchor::parse(&text).is_err());
    }
}

fn paper() -> PaperAnchor {
    let bench = Bench::new();
    let head = ChainHead {
        month: Month::parse("202611").unwrap(),
        sequence: 0x0102_0304_0506_0708,
        hash: [0xa5; 32],
        record: Err(Error::new(code::storage::IO, "not needed")),
    };
    PaperAnchor::of(&Anchor::sign(&bench.deployment, &head, &signer()))
}

#[test]
fn a_typed_anchor_may_look_as_people_write() {
    let paper = paper();
    let text = paper.text();
    for typed in [
        text.to_uppercase(),
        text.replace(' ', ""),
        text.replace(' ', "-"),
        format!("  {}\n", text.replace(' ', "\n")),
        text.replace('0', "O").replace('1', "l"),
    ] {
        assert_eq!(PaperAnchor::parse(&typed).unwrap(), paper, "{typed}");
    }
    // Two digits exchanged.
    let (a, b) = (text.find('8').unwrap(), text.find('5').unwrap());
    let mut digits: Vec<char> = text.chars().collect();
    digits.swap(a, b);
    let swapped: String = digits.into_iter().collect();
    assert!(PaperAnchor::parse(&swapped).is_err());
    assert!(!paper.is_of(&Bench::new().deployment), "the repository is another");
}

#[tokio::test]
async fn only_an_anchor_finds_the_end_cut_off_or_all_written_anew() {
    let bench = Bench::new();
    bench.deployment.register_signer(&signer().public()).await.unwrap();
    let keys = bench.five().await;
    let head = bench.log().head().await.unwrap().unwrap();
    let anchor = Anchor::sign(&bench.deployment, &head, &signer());
    let line = anchor.line().unwrap();
    let read = Anchor::parse(&line).unwrap();
    assert!(read == anchor && read.is_of(&bench.deployment));
    let claims = [
        read.claim(&bench.deployment, "the file").await.unwrap(),
        PaperAnchor::parse(&PaperAnchor::of(&read).text()).unwrap().claim(),
    ];
    bench.log().append(&event("later")).await.unwrap();
    assert_eq!(bench.bad(&claims).await, None);

    let last = bench.keys().await.pop().unwrap();
    bench.memory.delete(&last).await.unwrap();
    assert_eq!(bench.bad(&claims).await, None, "nobody has anchored the last one");
    bench.memory.delete(&keys[4]).await.unwrap();
    assert_eq!(bench.bad(&[]).await, None);
    for claim in &claims {
        let (sequence, problem) = bench.bad(std::slice::from_ref(claim)).await.unwrap();
        assert_eq!(sequence, 5);
        assert!(
            problem.contains(&claim.source) && problem.contains("cut off"),
            "{problem}"
        );
    }
    bench.log().append(&event("another fifth")).await.unwrap();
    assert_eq!(bench.bad(&[]).await, None);
    assert_eq!(bench.bad(&claims[..1]).await.unwrap().0, 5);
    assert_eq!(bench.bad(&claims[1..]).await.unwrap().0, 5);
    for key in bench.keys().await {
        bench.memory.delete(&key).await.unwrap();
    }
    assert_eq!(bench.bad(&claims).await.unwrap().0, 1, "all is gone");
}

#[tokio::test]
async fn an_anchor_that_was_altered_or_is_somebody_elses_is_refused() {
    let bench = Bench::new();
    bench.five().await;
    let head = bench.log().head().await.unwrap().unwrap();
    let line = Anchor::sign(&bench.deployment, &head, &signer()).line().unwrap();
    let stranger = Anchor::parse(&line)
        .unwrap()
        .claim(&bench.deployment, "f")
        .await
        .unwrap_err();
    assert!(stranger.is(code::repository::SIGNER_UNKNOWN), "{stranger}");
    bench.deployment.register_signer(&signer().public()).await.unwrap();
    let altered = [
        line.replace("\"sequence\":\"5\"", "\"sequence\":\"4\""),
        line.replace("\"at\":\"2026-12", "\"at\":\"2026-11"),
        line.replace("db1", "db2"),
    ];
    for text in altered {
        assert_ne!(text, line);
        let error = Anchor::parse(&text)
            .unwrap()
            .claim(&bench.deployment, "f")
            .await
            .unwrap_err();
        assert!(error.is(code::repository::AUDIT_BROKEN), "{error}");
    }
    assert!(
        !Anchor::parse(&line.replace("db1", "db2"))
            .unwrap()
            .is_of(&bench.deployment)
    );
    for bad in [
        "",
        "{}",
        &line[..line.len() - 1],
        &line.replace("anchor.v1", "anchor.v9"),
    ] {
        assert!(
            Anchor::parse(bad).unwrap_err().is(code::repository::ANCHOR_MALFORMED),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn another_repository_keeps_anchors() {
    let bench = Bench::new();
    bench.deployment.register_signer(&signer().public()).await.unwrap();
    bench.five().await;
    let head = bench.log().head().await.unwrap().unwrap();
    let anchor = Anchor::sign(&bench.deployment, &head, &signer());
    let other: DynStore = Arc::new(MemoryStore::new());
    assert!(Anchor::stored(&other, &bench.deployment).await.unwrap().is_empty());
    anchor.put(&other).await.unwrap();
    bench.set(time("2026-12-05T00:00:00Z"));
    // The same head, later.
    Anchor::sign(&bench.deployment, &head, &signer())
        .put(&other)
        .await
        .unwrap();
    let stored = Anchor::stored(&other, &bench.deployment).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].1.as_ref().unwrap(), &anchor);
}

#[tokio::test]
async fn receipts_tell_how_the_chain_stands() {
    let bench = Bench::new();
    let log = bench.log();
    let empty = log.standing().await.unwrap();
    assert_eq!((empty.events, empty.unanchored, empty.oldest_unanchored), (0, 0, None));
    let keys = bench.five().await;
    let before = log.standing().await.unwrap();
    assert_eq!((before.events, before.unanchored), (5, 5));
    assert_eq!(before.oldest_unanchored, Some(time("2026-11-26T08:00:00Z")));
    let head = log.head().await.unwrap().unwrap();
    let anchor = Anchor::sign(&bench.deployment, &head, &signer());
    log.note(&head, &anchor, AnchorKind::Paper).await.unwrap();
    let after = log.standing().await.unwrap();
    assert_eq!((after.events, after.unanchored, after.oldest_unanchored), (5, 0, None));
    let receipt = after.anchored.unwrap();
    assert_eq!((receipt.sequence, receipt.to), (5, AnchorKind::Paper));
    bench.set(time("2027-02-03T00:00:00Z"));
    log.append(&event("x")).await.unwrap();
    let later = log.standing().await.unwrap();
    assert_eq!((later.events, later.unanchored), (6, 1));
    assert_eq!(later.oldest_unanchored, Some(time("2027-02-03T00:00:00Z")));
    assert_eq!(bench.bad(&[]).await, None);

    // A receipt is an anchor of sorts: whoever cuts off the end has to remove it, too.
    let last = bench.keys().await;
    let cut: Vec<&Key> = last
        .iter()
        .filter(|key| **key == keys[4] || key.as_str().contains("0006.json"))
        .collect();
    assert_eq!(cut.len(), 2);
    for key in cut {
        bench.memory.delete(key).await.unwrap();
    }
    assert_eq!(bench.bad(&[]).await.unwrap().0, 5);
    for told in [log.standing().await.map(|_| ()), log.anchorable().await.map(|_| ())] {
        assert!(told.unwrap_err().is(code::repository::AUDIT_BROKEN));
    }
    let receipt = last.iter().find(|key| key.as_str().contains("/anchors/")).unwrap();
    bench.memory.corrupt(receipt, |bytes| bytes[90] ^= 1);
    let (sequence, problem) = bench.bad(&[]).await.unwrap();
    assert!(sequence == 5 && problem.contains("receipt"), "{problem}");
    assert!(log.standing().await.is_err());
}
