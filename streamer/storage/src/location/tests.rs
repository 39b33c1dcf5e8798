//! What is read, what is refused, and that printing and reading agree.
use super::*;
use proptest::prelude::*;

fn code_of(url: &str) -> hardstorage_report::Code {
    Location::parse(url).unwrap_err().code()
}

#[test]
fn directories() {
    for (url, path) in [
        ("file:///postgresql/backup", "/postgresql/backup"),
        ("file:///postgresql/backup/", "/postgresql/backup"),
        ("FILE:///a//b/./c", "/a/b/c"),
        ("file:///with%20space/%25/%3F", "/with space/%/?"),
    ] {
        let location = Location::parse(url).unwrap();
        assert_eq!(location, Location::File(PathBuf::from(path)), "{url}");
        assert_eq!(Location::parse(&location.to_string()).unwrap(), location);
    }
    for bad in [
        "file://relative/path",
        "file://",
        "file:///",
        "file://localhost/srv",
        "file:///a/../b",
        "file:///a/%2e%2e/b",
        "file:///a?x=1",
        "file:///a#b",
        "file:///a%00b",
        "file:///a%2",
        "file:///a%zz",
        "/srv/backup",
        "srv",
        "",
    ] {
        assert_eq!(code_of(bad), code::usage::URL, "{bad}");
    }
}

#[test]
fn buckets_of_the_introduction() {
    let Location::S3(location) = Location::parse("s3://acme-backups/?region=eu-central-1").unwrap() else {
        unreachable!("the scheme is s3")
    };
    assert_eq!(location.bucket, "acme-backups");
    assert_eq!(location.prefix, "");
    assert_eq!(location.region.as_deref(), Some("eu-central-1"));
    assert_eq!(location.to_string(), "s3://acme-backups?region=eu-central-1");
}

#[test]
fn every_parameter_survives_printing() {
    let url = "s3://bkt/team-a/x?region=r1&endpoint=http://127.0.0.1:9000&path_style=false&storage_class=STANDARD_IA\
               &checksum=when_supported&ca_file=/etc/a%20b.pem&concurrency=4&max_rate=50MB";
    let location = Location::parse(url).unwrap();
    let Location::S3(s3) = &location else {
        unreachable!("the scheme is s3")
    };
    assert_eq!(s3.prefix, "team-a/x");
    assert_eq!(s3.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
    assert_eq!(s3.ca_file.as_deref(), Some(Path::new("/etc/a b.pem")));
    assert_eq!(
        s3.max_rate.map(NonZeroU64::get),
        Some("50MB".parse::<ByteSize>().unwrap().0)
    );
    assert_eq!(Location::parse(&location.to_string()).unwrap(), location);
}

#[test]
fn wrong_s3_urls() {
    for bad in [
        "s3://",
        "s3://ab",
        "s3:///prefix",
        "s3://user:secret@bucket/x",
        "s3://bucket?colour=red",
        "s3://bucket?region=",
        "s3://bucket?region=a&region=b",
        "s3://bucket/a/../b",
        "s3://bucket/.hidden",
        "s3://bucket#x",
        "s3://Bu cket",
        "s3://bucket?endpoint=minio:9000",
        "s3://bucket?endpoint=ftp://x",
        "s3://bucket?endpoint=http://u:p@x",
        "s3://bucket?endpoint=http://x/y",
        "s3://bucket?path_style=yes",
        "s3://bucket?checksum=md5",
        "s3://bucket?ca_file=ca.pem",
        "s3://bucket?concurrency=0",
        "s3://bucket?concurrency=many",
        "s3://bucket?max_rate=fast",
    ] {
        assert_eq!(code_of(bad), code::usage::URL, "{bad}");
    }
}

#[test]
fn secrets_are_not_repeated() {
    for url in [
        "s3://key:hunter2@bucket/x",
        "s3://bucket?endpoint=http://u:hunter2@x",
        "hunter2@/x",
    ] {
        let error = Location::parse(url).unwrap_err();
        assert!(!format!("{error} {}", error.hint_text()).contains("hunter2"), "{error}");
    }
}

#[test]
fn unknown_schemes_name_what_is_served() {
    for url in [
        "gcs://bucket/",
        "azblob://account.blob.core.windows.net/container/",
        "sftp://a@b/c",
        "http://x",
    ] {
        let error = Location::parse(url).unwrap_err();
        assert_eq!(error.code(), code::usage::SCHEME);
        assert_eq!(error.exit_code(), 2);
        assert!(error.hint_text().contains("file://") && error.hint_text().contains("s3://"));
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), scheme in "(file|s3|memory|)(://)?") {
        if let Ok(location) = Location::parse(&format!("{scheme}{text}")) {
            prop_assert_eq!(Location::parse(&location.to_string()).unwrap(), location);
        }
    }

    #[test]
    fn any_path_survives(parts in proptest::collection::vec("[^/\0]{1,20}", 1..5)) {
        prop_assume!(parts.iter().all(|part| part != "." && part != ".."));
        let path = PathBuf::from(format!("/{}", parts.join("/")));
        let location = Location::File(path);
        prop_assert_eq!(Location::parse(&location.to_string()).unwrap(), location);
    }

    #[test]
    fn any_bucket_and_prefix_survive(bucket in "[a-z0-9][a-z0-9-]{1,30}[a-z0-9]", prefix in "[a-z0-9_=-]{1,9}(/[a-z0-9.]{0}[a-z0-9]{1,9}){0,4}",
                                     region in proptest::option::of("[a-z]{2}-[a-z]{4,9}-[1-9]"), path_style in any::<Option<bool>>(),
                                     concurrency in proptest::option::of(1usize..=512)) {
        let location = Location::S3(S3Location { bucket, prefix, region, path_style, concurrency, ..S3Location::default() });
        prop_assert_eq!(Location::parse(&location.to_string()).unwrap(), location);
    }
}
