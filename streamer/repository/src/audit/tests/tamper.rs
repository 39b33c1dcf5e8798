//! Whoever changes a chain is found, and it goes on behind the damage.

use super::*;

#[tokio::test]
async fn what_was_changed_is_found_and_named() {
    // Each flip of a bit, anywhere in any record.
    let bench = Bench::new();
    let keys = bench.five().await;
    for (index, key) in keys.iter().enumerate() {
        let stored = bench.get(key).await;
        for at in (0..stored.len()).step_by(37) {
            bench.memory.corrupt(key, |bytes| bytes[at] ^= 4);
            assert_eq!(bench.bad(&[]).await.unwrap().0, index as u64 + 1, "{key} {at}");
            bench.replace(key, stored.clone()).await;
        }
    }
    assert_eq!(bench.bad(&[]).await, None);

    // Taken out.
    for (index, key) in keys.iter().enumerate().take(4) {
        let stored = bench.get(key).await;
        bench.memory.delete(key).await.unwrap();
        let (sequence, problem) = bench.bad(&[]).await.unwrap();
        assert_eq!(sequence, index as u64 + 1);
        assert!(problem.contains("missing"), "{problem}");
        bench.replace(key, stored).await;
    }

    // Two exchanged.
    let (second, third) = (bench.get(&keys[1]).await, bench.get(&keys[2]).await);
    bench.replace(&keys[1], third.clone()).await;
    bench.replace(&keys[2], second.clone()).await;
    assert_eq!(bench.bad(&[]).await.unwrap().0, 2);
    bench.replace(&keys[1], second.clone()).await;
    bench.replace(&keys[2], third).await;

    // Put in: a copy behind the end, a copy in another month, and something that is no record.
    let fifth = bench.get(&keys[4]).await;
    let month = Month::parse("202612").unwrap();
    for (name, sequence) in [
        (layout::audit(bench.deployment.name(), month, 6), 6),
        (layout::audit(bench.deployment.name(), month, 9), 6),
        (
            layout::audit(bench.deployment.name(), Month::parse("202701").unwrap(), 2),
            2,
        ),
        (
            layout::audit(bench.deployment.name(), Month::parse("202610").unwrap(), 1),
            1,
        ),
        (layout::audit(bench.deployment.name(), month, 0), 1),
        (Key::new("audit/db1/202612/zz").unwrap(), 6),
        (Key::new("audit/db1/strange").unwrap(), 6),
    ] {
        bench.memory.put_new(&name, fifth.clone()).await.unwrap();
        assert_eq!(bench.bad(&[]).await.unwrap().0, sequence, "{name}");
        bench.memory.delete(&name).await.unwrap();
    }

    // Moved to another folder.
    let moved = layout::audit(bench.deployment.name(), Month::parse("202701").unwrap(), 5);
    bench.memory.delete(&keys[4]).await.unwrap();
    bench.memory.put_new(&moved, fifth.clone()).await.unwrap();
    assert_eq!(bench.bad(&[]).await.unwrap().0, 5);
    bench.memory.delete(&moved).await.unwrap();
    bench.replace(&keys[4], fifth).await;

    // A record of another deployment with the same number.
    let other = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
    AuditLog::of(&other).append(&event("x")).await.unwrap();
    let (foreign, first) = (other.store(), bench.get(&keys[0]).await);
    let key = foreign.list(&ListRequest::under("audit/")).await.unwrap().objects[0]
        .key
        .clone();
    let stored = foreign.get(&key).await.unwrap().unwrap();
    bench.replace(&keys[0], stored).await;
    assert_eq!(bench.bad(&[]).await.unwrap().0, 1);
    bench.replace(&keys[0], first).await;
    assert_eq!(bench.bad(&[]).await, None);
}

#[tokio::test]
async fn whoever_has_the_key_breaks_the_links_all_the_same() {
    let bench = Bench::new();
    let keys = bench.five().await;
    // The second record is written anew with the key: its own MAC holds.
    let whole: Vec<Bytes> = {
        let mut all = Vec::new();
        for key in &keys {
            all.push(bench.get(key).await);
        }
        all
    };
    for key in &keys[1..] {
        bench.memory.delete(key).await.unwrap();
    }
    bench.set(time("2026-11-27T08:00:00Z"));
    bench.log().append(&event("a lie")).await.unwrap();
    for (key, bytes) in keys.iter().zip(&whole).skip(2) {
        bench.memory.put_new(key, bytes.clone()).await.unwrap();
    }
    let (sequence, problem) = bench.bad(&[]).await.unwrap();
    assert_eq!(sequence, 2);
    assert!(problem.contains("record 3 was written behind another"), "{problem}");
}

#[tokio::test]
async fn behind_a_damaged_head_it_goes_on_and_the_damage_stays_known() {
    let bench = Bench::new();
    let keys = bench.five().await;
    bench.memory.corrupt(&keys[4], |bytes| bytes[100] ^= 1);
    let record = bench.log().append(&event("after")).await.unwrap();
    assert_eq!(record.sequence, 6);
    assert_eq!(bench.bad(&[]).await.unwrap().0, 5);
    let last = bench.keys().await.pop().unwrap();
    bench.memory.corrupt(&last, |bytes| bytes[100] ^= 1);
    assert!(
        bench
            .log()
            .anchorable()
            .await
            .unwrap_err()
            .is(code::repository::AUDIT_BROKEN)
    );
    bench.memory.corrupt(&last, |bytes| bytes[100] ^= 1);
    let listed = bench.log().last(Some(2)).await.unwrap();
    assert!(listed[0].record.is_err() && listed[1].record.is_ok());
}

#[tokio::test]
async fn a_name_with_the_last_number_stops_the_chain_and_is_found() {
    let bench = Bench::new();
    bench.five().await;
    let name = layout::audit(bench.deployment.name(), Month::parse("999912").unwrap(), u64::MAX);
    bench.memory.put_new(&name, Bytes::from_static(b"x")).await.unwrap();
    // Of another process: this one knows the end of the chain.
    let error = AuditLog::of(&bench.deployment.twin())
        .append(&event("x"))
        .await
        .unwrap_err();
    assert!(error.is(code::repository::OBJECT_CORRUPT), "{error}");
    assert_eq!(bench.bad(&[]).await.unwrap().0, 6);
}
