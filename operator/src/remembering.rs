//! An API server that remembers: objects by path, with the rules that crash tests rest on (create-only names, UIDs and
//! resourceVersions as preconditions, finalizers). It can break off at any write, before or after it took effect, so that
//! a reconcile is replayed from every state in which it can be left.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use clap::Parser as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::context::Context;
use crate::metrics::Metrics;
use crate::scripted::Answers;
use crate::settings::Settings;

/// Where a write breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// It never reaches the server.
    Before,
    /// It takes effect, and the answer is lost.
    After,
}

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: usize,
    reads: usize,
    break_at: Option<(usize, Break)>,
    log: Vec<(Method, String)>,
}

/// The server; clones are the same one.
#[derive(Clone)]
pub struct Server {
    store: Arc<Mutex<Store>>,
    /// The time.
    pub now: Timestamp,
}

type Answer = (u16, Value);

fn no(status: u16, reason: &str) -> Answer {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason,
        "code": status, "metadata": {}});
    (status, body)
}

impl Server {
    /// With these objects, by path.
    pub fn new(objects: Vec<(&str, Value)>, now: Timestamp) -> Server {
        let server = Server {
            store: Arc::default(),
            now,
        };
        for (path, object) in objects {
            server.put(path, object);
        }
        server
    }

    /// Puts an object there.
    pub fn put(&self, path: &str, object: Value) {
        let mut store = self.store.lock().unwrap();
        store.add(path, object, self.now);
    }

    /// The object of a path.
    pub fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Option<T> {
        let object = self.store.lock().unwrap().objects.get(path).cloned()?;
        Some(serde_json::from_value(object).unwrap())
    }

    /// Changes an object, as another controller would.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut store = self.store.lock().unwrap();
        change(store.objects.get_mut(path).unwrap());
        store.version += 1;
        let version = store.version.to_string();
        store.objects.get_mut(path).unwrap()["metadata"]["resourceVersion"] = json!(version);
    }

    /// Takes an object away.
    pub fn remove(&self, path: &str) {
        self.store.lock().unwrap().objects.remove(path);
    }

    /// The objects below a path.
    pub fn below(&self, path: &str) -> Vec<Value> {
        let store = self.store.lock().unwrap();
        let prefix = format!("{path}/");
        let found = store.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        found.map(|(_, object)| object.clone()).collect()
    }

    /// Breaks off at a write, counted from 0 and from now.
    pub fn break_at(&self, write: usize, how: Break) {
        let mut store = self.store.lock().unwrap();
        store.writes = 0;
        store.break_at = Some((write, how));
    }

    /// Whether the write was reached.
    pub fn broke(&self) -> bool {
        self.store.lock().unwrap().break_at.is_none()
    }

    /// How many objects and lists were read.
    pub fn reads(&self) -> usize {
        self.store.lock().unwrap().reads
    }

    /// How many writes of that method to that path took effect.
    pub fn count(&self, method: &Method, path: &str) -> usize {
        let store = self.store.lock().unwrap();
        store
            .log
            .iter()
            .filter(|(done, at)| done == method && at.starts_with(path))
            .count()
    }

    /// A context on it.
    pub fn context(&self, reports: Answers) -> Arc<Context> {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let (store, now) = (self.store.clone(), self.now);
        tokio::spawn(async move {
            while let Some((request, answer)) = handle.next_request().await {
                let (method, uri) = (request.method().clone(), request.uri().clone());
                let merges = request
                    .headers()
                    .get("content-type")
                    .is_some_and(|kind| kind.to_str().unwrap().contains("merge-patch"));
                let sent = request.into_body().collect().await.unwrap().to_bytes();
                let sent = serde_json::from_slice(&sent).unwrap_or(Value::Null);
                let (status, body) = store.lock().unwrap().handle(&method, &uri, sent, merges, now);
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                let status = StatusCode::from_u16(status).unwrap();
                answer.send_response(Response::builder().status(status).body(body).unwrap());
            }
        });
        let settings = Settings::parse_from(["operator", "--engine-image", "engine:1"]);
        let clock = Arc::new(move || now);
        let client = Client::new(service, "team");
        Arc::new(Context::with_clock(
            client,
            settings,
            Arc::new(reports),
            Metrics::default(),
            clock,
        ))
    }
}

impl Store {
    fn add(&mut self, path: &str, mut object: Value, now: Timestamp) -> Value {
        self.version += 1;
        let metadata = object["metadata"].as_object_mut().unwrap();
        let uid = format!("uid-{}", self.version);
        metadata.entry("uid").or_insert_with(|| json!(uid));
        metadata.entry("creationTimestamp").or_insert_with(|| json!(now));
        metadata.entry("generation").or_insert_with(|| json!(1));
        metadata.insert("resourceVersion".into(), json!(self.version.to_string()));
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn handle(&mut self, method: &Method, uri: &http::Uri, sent: Value, merges: bool, now: Timestamp) -> Answer {
        let path = uri.path();
        if path.contains("/events") {
            return (201, sent);
        }
        if *method == Method::GET {
            self.reads += 1;
            return self.read(path, uri.query().unwrap_or_default());
        }
        let broken = self
            .break_at
            .filter(|(write, _)| *write == self.writes)
            .map(|(_, how)| how);
        self.writes += 1;
        if broken.is_some() {
            self.break_at = None;
        }
        if broken == Some(Break::Before) {
            return no(500, "InternalError");
        }
        let answer = match *method {
            Method::POST => self.create(path, sent, now),
            Method::PATCH => self.patch(path, sent, merges, now),
            Method::DELETE => self.delete(path, &sent, now),
            _ => panic!("{method} {path}"),
        };
        if answer.0 < 300 {
            self.log.push((method.clone(), path.to_owned()));
        }
        if broken.is_some() {
            no(500, "InternalError")
        } else {
            answer
        }
    }

    fn read(&self, path: &str, query: &str) -> Answer {
        if let Some(object) = self.objects.get(path) {
            return (200, object.clone());
        }
        let (before, plural) = path.rsplit_once('/').unwrap();
        let one = path
            .split("/namespaces/")
            .nth(1)
            .is_some_and(|rest| rest.split('/').count() != 2);
        if one || before.ends_with("/customresourcedefinitions") {
            return no(404, "NotFound");
        }
        let selector = query
            .split('&')
            .find_map(|part| part.strip_prefix("labelSelector="))
            .map(|text| text.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/"))
            .unwrap_or_default();
        let is_in = |key: &str| {
            let whole = key.rsplit_once('/').unwrap().0;
            whole == path || (!path.contains("/namespaces/") && whole.starts_with(before) && whole.ends_with(plural))
        };
        let matches = |object: &Value| {
            selector
                .split(',')
                .filter_map(|term| term.split_once('='))
                .all(|(key, value)| object["metadata"]["labels"][key] == json!(value))
        };
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|(key, object)| is_in(key) && matches(object))
            .map(|(_, object)| object)
            .collect();
        (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
        )
    }

    fn create(&mut self, path: &str, object: Value, now: Timestamp) -> Answer {
        let key = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
        if self.objects.contains_key(&key) {
            return no(409, "AlreadyExists");
        }
        (201, self.add(&key, object, now))
    }

    fn patch(&mut self, path: &str, sent: Value, merges: bool, now: Timestamp) -> Answer {
        let (key, is_status) = path.strip_suffix("/status").map_or((path, false), |key| (key, true));
        let Some(mut object) = self.objects.get(key).cloned() else {
            if merges || is_status {
                return no(404, "NotFound");
            }
            return (201, self.add(key, sent, now));
        };
        for member in ["uid", "resourceVersion"] {
            let wanted = &sent["metadata"][member];
            if !wanted.is_null() && *wanted != object["metadata"][member] {
                return no(409, "Conflict");
            }
        }
        if is_status {
            object["status"] = sent["status"].clone();
        } else {
            merge(&mut object, &sent);
        }
        let going = !object["metadata"]["deletionTimestamp"].is_null();
        let free = object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if going && free {
            self.objects.remove(key);
            return (200, object);
        }
        (200, self.add(key, object, now))
    }

    fn delete(&mut self, path: &str, sent: &Value, now: Timestamp) -> Answer {
        let Some(object) = self.objects.get_mut(path) else {
            return no(404, "NotFound");
        };
        let wanted = &sent["preconditions"]["uid"];
        if !wanted.is_null() && *wanted != object["metadata"]["uid"] {
            return no(409, "Conflict");
        }
        if object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
        {
            object["metadata"]["deletionTimestamp"] = json!(now);
        } else {
            self.objects.remove(path);
        }
        (
            200,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}),
        )
    }
}

fn merge(object: &mut Value, change: &Value) {
    match (object, change) {
        (Value::Object(object), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    object.remove(key);
                } else {
                    merge(object.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (object, change) => *object = change.clone(),
    }
}
