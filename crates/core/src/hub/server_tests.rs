//! Downloads from a server in this process that speaks the Hub's routes.
#![allow(clippy::unwrap_used)] // a server in a test

use super::cache::list;
use super::*;
use crate::sha256;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FILES: [(&str, &str); 4] = [
    ("config.json", "{\"a\": 1}"),
    ("model.safetensors", "weights"),
    ("pytorch_model.bin", "old weights"),
    ("sub/extra.txt", "x"),
];

/// A Hub with the model org/name. Every request is noted as `METHOD path token`.
struct Hub {
    endpoint: String,
    log: Arc<Mutex<Vec<String>>>,
}

/// What the server does with a request for a file.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    /// Less than Content-Length promises.
    Short,
    /// The listing is fine, each file is a 500.
    Failing,
    /// A file's first byte is fine, the whole is a 500 with a page as its body.
    FailingLate,
    /// Other bytes than the listing's SHA-256, of the same length.
    Altered,
    /// A listing that leads out of the cache.
    Hostile,
    /// A file whose tag leads out of the cache.
    HostileTag,
}

/// The answer to a request for `path`, of which the bytes from `start` to `end` are asked for.
fn respond(mood: Mood, path: &str, token: &str, (start, end): (usize, usize)) -> (String, Vec<u8>) {
    let json = |body: String| ("200 OK\r\nContent-Type: application/json".to_string(), body.into_bytes());
    let revision = |r: &str| ["main", "v1", COMMIT].contains(&r);
    if path.starts_with("/api/models/org/gated") && token.is_empty() {
        return ("401 Unauthorized".into(), b"{\"error\": \"Access is restricted\"}".to_vec());
    }
    let Some(rest) =
        path.strip_prefix("/api/models/org/name/").or_else(|| path.strip_prefix("/api/models/org/gated/"))
    else {
        let file = path.split_once("/resolve/").and_then(|(_, r)| r.split_once('/'));
        let late = mood == Mood::FailingLate && end > 0;
        return match file.and_then(|(r, f)| FILES.iter().find(|x| x.0 == f && revision(r))) {
            Some(_) if mood == Mood::Failing || late => ("500 Internal Server Error".into(), b"no".to_vec()),
            Some((name, body)) => {
                let tag = match mood {
                    Mood::HostileTag => "../../../../escape.txt".to_string(),
                    _ => format!("etag-{}", name.replace(['/', '.', '_'], "-")),
                };
                let (all, end) = (body.len(), end.min(body.len() - 1));
                let head = format!(
                    "206 Partial Content\r\nETag: \"{tag}\"\r\nX-Repo-Commit: {COMMIT}\r\n\
                     Content-Range: bytes {start}-{end}/{all}"
                );
                let mut body = body.as_bytes()[start..=end].to_vec();
                if mood == Mood::Altered {
                    body[0] ^= 1;
                }
                (head, body)
            }
            None => ("404 Not Found".into(), b"{\"error\": \"not found\"}".to_vec()),
        };
    };
    match rest.split_once('/') {
        Some(("revision", r)) if r.strip_suffix("?blobs=true").is_some_and(revision) => {
            let item = |name: &str, body: &str| {
                let sum = sha256::of(body.as_bytes()).unwrap();
                let size = body.len();
                format!("{{\"rfilename\": \"{name}\", \"size\": {size}, \"lfs\": {{\"sha256\": \"{sum}\"}}}}")
            };
            let mut items: Vec<String> = FILES.iter().map(|(n, b)| item(n, b)).collect();
            items.push("{\"rfilename\": \"empty.txt\", \"size\": 0}".into());
            if mood == Mood::Hostile {
                items.push(item("../../../../escape.txt", "x"));
            }
            json(format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", items.join(",")))
        }
        _ => ("404 Not Found".into(), b"{\"error\": \"not found\"}".to_vec()),
    }
}

impl Hub {
    fn start(mood: Mood) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let noted = log.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), noted) = (stream, noted.clone()) else { return };
                std::thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(|l| l.ok());
                    let Some(request) = lines.next() else { return };
                    let headers: Vec<String> = lines.take_while(|l| !l.is_empty()).collect();
                    let token = headers
                        .iter()
                        .find_map(|h| h.strip_prefix("authorization: Bearer "))
                        .unwrap_or("")
                        .to_string();
                    noted.lock().unwrap().push(format!("{} {token}", request.trim_end_matches(" HTTP/1.1")));
                    let range = headers.iter().find_map(|h| h.strip_prefix("range: bytes="));
                    let (start, end) = range.and_then(|r| r.split_once('-')).unwrap_or(("0", ""));
                    let range = (start.parse().unwrap(), end.parse().unwrap_or(usize::MAX));
                    let path = request.split(' ').nth(1).unwrap_or("");
                    let (head, body) = respond(mood, path, &token, range);
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    );
                    let short = mood == Mood::Short && range.1 > 0 && path.contains("/resolve/");
                    let _ = stream.write_all(if short { &body[..body.len() / 2] } else { &body });
                });
            }
        });
        Hub { endpoint, log }
    }

    fn options(&self, cache: &Path) -> HubOptions {
        HubOptions {
            endpoint: Some(self.endpoint.clone()),
            cache: Some(cache.into()),
            token: Some("tok".into()),
            offline: false,
            also: Vec::new(),
        }
    }
}

#[test]
fn downloads_what_is_asked_for_and_no_more() {
    let (hub, dir) = (Hub::start(Mood::Good), tempfile::tempdir().unwrap());
    let o = hub.options(dir.path());
    let folder = pull("org/name", &["config.json", "*.safetensors|*.bin"], &o).unwrap();
    assert_eq!(folder, dir.path().join("models--org--name/snapshots").join(COMMIT));
    let mut files = Vec::new();
    list(&folder, "", 0, &mut files);
    files.sort();
    assert_eq!(files, ["config.json", "model.safetensors"], "the first alternative, not both");
    assert_eq!(std::fs::read_to_string(folder.join("model.safetensors")).unwrap(), "weights");
    assert!(hub.log.lock().unwrap().iter().all(|l| l.ends_with(" tok")), "{:?}", hub.log.lock().unwrap());

    // Offline from now on, by our own reader of the same cache.
    let offline = HubOptions { offline: true, ..o.clone() };
    assert_eq!(pull("org/name", &["config.json", "*.safetensors"], &offline).unwrap(), folder);
    assert!(pull("org/name", &["sub/extra.txt"], &offline).is_err());
    // Again and more: only the new file is fetched.
    hub.log.lock().unwrap().clear();
    assert_eq!(pull("org/name@v1", &["config.json", "sub/*"], &o).unwrap(), folder);
    let log = hub.log.lock().unwrap().clone();
    assert!(log.iter().any(|l| l.starts_with("GET") && l.contains("sub/extra.txt")), "{log:?}");
    assert!(!log.iter().any(|l| l.starts_with("GET") && l.contains("config.json")), "{log:?}");
    assert_eq!(pull("org/name@v1", &["sub/extra.txt"], &offline).unwrap(), folder);
    // What comes along if the model has it; an empty file.
    let more = HubOptions { also: vec!["empty.*".into(), "tokenizer.json".into()], ..o.clone() };
    assert_eq!(pull("org/name", &["config.json"], &more).unwrap(), folder);
    assert_eq!(std::fs::read(folder.join("empty.txt")).unwrap(), b"");
    // All files; and a commit that is complete asks nobody.
    assert_eq!(pull("org/name", &[], &o).unwrap(), folder);
    assert!(folder.join("pytorch_model.bin").is_file());
    hub.log.lock().unwrap().clear();
    assert_eq!(pull(&format!("org/name@{COMMIT}"), &["config.json"], &o).unwrap(), folder);
    assert!(hub.log.lock().unwrap().is_empty());
}

#[test]
fn what_the_hub_does_not_have() {
    let (hub, dir) = (Hub::start(Mood::Good), tempfile::tempdir().unwrap());
    let o = hub.options(dir.path());
    let err = |model: &str, file: &str, o: &HubOptions| pull(model, &[file], o).unwrap_err().to_string();
    let e = err("org/name", "tokenizer.json", &o);
    assert!(e.contains("no file tokenizer.json in this model; it has config.json"), "{e}");
    let e = err("org/gated", "config.json", &HubOptions { token: Some(String::new()), ..o.clone() });
    assert!(e.starts_with("org/gated: ") && e.contains("set HF_TOKEN"), "{e}");
    let e = err("org/nothing", "config.json", &o);
    assert!(e.starts_with("org/nothing: ") && e.contains("is there such a model"), "{e}");
    let e = err("org/name@v9", "config.json", &o);
    assert!(e.starts_with("org/name@v9: "), "{e}");
    assert!(!e.contains("tok "), "{e}");
}

#[test]
fn an_unreachable_hub_leaves_the_cache() {
    let (hub, dir) = (Hub::start(Mood::Good), tempfile::tempdir().unwrap());
    let folder = pull("org/name", &["config.json"], &hub.options(dir.path())).unwrap();
    // Nobody listens at the address of a listener that was dropped.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let o = HubOptions { endpoint: Some(format!("http://{gone}")), ..hub.options(dir.path()) };
    assert_eq!(pull("org/name", &["config.json"], &o).unwrap(), folder);
    let e = pull("org/name", &["model.safetensors"], &o).unwrap_err().to_string();
    assert!(
        e.contains("the Hub does not answer") && e.contains("model.safetensors is not in the cache"),
        "{e}"
    );
    assert!(
        pull("org/name", &["config.json"], &HubOptions { endpoint: Some("no address".into()), ..o }).is_err()
    );
}

#[test]
fn broken_downloads_do_not_stay() {
    for (mood, says) in [
        (Mood::Short, "org/name: "),
        (Mood::Failing, "config.json: request error: http status: 500"),
        (Mood::FailingLate, "config.json: request error: http status: 500"),
        (Mood::Altered, "config.json: SHA-256 "),
        (Mood::Hostile, "escape.txt`, which is not a path inside a model"),
        (Mood::HostileTag, "config.json: the Hub sends tag `../../../../escape.txt`"),
    ] {
        let (hub, dir) = (Hub::start(mood), tempfile::tempdir().unwrap());
        let o = hub.options(dir.path());
        let e = pull("org/name", &["config.json"], &o).unwrap_err().to_string();
        assert!(e.contains(says), "{e}");
        assert!(
            pull("org/name", &["config.json"], &HubOptions { offline: true, ..o }).is_err(),
            "nothing half-done is in the cache"
        );
        assert!(!dir.path().parent().unwrap().join("escape.txt").exists());
    }
}
