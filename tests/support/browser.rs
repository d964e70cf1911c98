//! A real Chromium, told what to do over its pipe: the protocol that its own developer tools speak.
//!
//! Source: chromedevtools.github.io/devtools-protocol; with --remote-debugging-pipe each message is JSON and a NUL, read
//! from descriptor 3 and written to descriptor 4.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testcluster::{Cluster, chromium};

use super::LIMIT;

/// A browser with one tab. It ends when it is dropped.
pub struct Browser {
    process: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<Value>,
    session: String,
    last: u64,
    events: Vec<Value>,
}

/// A window.
#[derive(Clone, Copy)]
pub struct Window {
    pub width: u32,
    pub height: u32,
    pub scale: f32,
    pub scheme: &'static str,
}

impl Browser {
    pub fn start(cluster: &Cluster) -> Browser {
        let folder: PathBuf = cluster.folder("browser").expect("a folder");
        let log = File::create(cluster.logs_dir().join("chromium.log")).expect("a log");
        let mut process = Command::new("sh")
            .args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#, "sh"])
            .arg(chromium::program().expect("Chromium"))
            // Without the middle ones it looks for its maker's hosts at every start.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb"])
            .args(["--no-first-run", "--disable-quic", "--disable-background-networking", "--disable-component-update"])
            .args([
                "--disable-sync",
                "--disable-dev-shm-usage",
                "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            ])
            // As a person does who is asked about a private authority; other tests look at the certificate.
            .args(["--ignore-certificate-errors", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", folder.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("sh starts");
        let (sender, answers) = channel();
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { break };
                if sender.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let orders = process.stdin.take();
        let mut browser = Browser { process, orders, answers, session: String::new(), last: 0, events: Vec::new() };
        let tab = browser.order("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": tab["targetId"], "flatten": true });
        let attached = browser.order("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.order(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Gives an order and waits for the answer.
    pub fn order(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut order = json!({ "id": self.last, "method": method, "params": params });
        if !self.session.is_empty() {
            order["sessionId"] = json!(self.session);
        }
        let orders = self.orders.as_mut().expect("it runs");
        orders.write_all(&[order.to_string().as_bytes(), &[0]].concat()).expect("it listens");
        orders.flush().expect("it listens");
        let id = self.last;
        let answer = self.next(method, |message| message["id"] == id);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Waits for a message; others are kept as what happened.
    fn next(&mut self, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let left = LIMIT.checked_sub(start.elapsed()).unwrap_or_default();
            let message = self.answers.recv_timeout(left).unwrap_or_else(|error| panic!("{what}: {error}"));
            if is_it(&message) {
                return message;
            }
            if message["method"].is_string() {
                self.events.push(message);
            }
        }
    }

    /// How the tab looks at pages from now on.
    pub fn look_through(&mut self, window: Window) {
        let metrics = json!({ "width": window.width, "height": window.height, "deviceScaleFactor": window.scale, "mobile": window.width < 600 });
        self.order("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": window.scheme }] });
        self.order("Emulation.setEmulatedMedia", scheme);
    }

    /// Whether pages may run scripts from now on.
    pub fn scripts(&mut self, allowed: bool) {
        self.order("Emulation.setScriptExecutionDisabled", json!({ "value": !allowed }));
    }

    /// Goes to a page and waits until it is there.
    pub fn go(&mut self, url: &str) {
        let gone = self.order("Page.navigate", json!({ "url": url }));
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        self.next("the load event", |message| message["method"] == "Page.loadEventFired");
    }

    /// What an expression is in the page.
    pub fn ask(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.order("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text that a person sees.
    pub fn text(&mut self) -> String {
        self.ask("document.body.innerText").as_str().expect("text").to_owned()
    }

    /// Waits until an expression is true in the page.
    pub async fn until(&mut self, expression: &str) {
        super::eventually(expression, async || (self.ask(expression) == true).then_some(())).await;
    }

    /// Presses a key, such as `Tab`.
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.order(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code }),
            );
        }
    }

    /// A picture of what the window shows.
    pub fn picture(&mut self) -> Vec<u8> {
        let picture = self.order("Page.captureScreenshot", json!({ "format": "png" }));
        STANDARD.decode(picture["data"].as_str().expect("data")).expect("base64")
    }

    /// What the browser complained about: errors, warnings, violations of the policy, requests that failed.
    pub fn complaints(&self) -> Vec<&Value> {
        let complains = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        self.events.iter().filter(complains).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its pipe is the end of it and of its processes.
        drop(self.orders.take());
        let start = Instant::now();
        while start.elapsed() < LIMIT && !matches!(self.process.try_wait(), Ok(Some(_))) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
