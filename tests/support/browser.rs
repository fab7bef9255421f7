//! A real browser: headless Chromium, driven over WebDriver, gone when the tests are.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::OnceLock;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use futures_util::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::{Method, Url};
use serde_json::{Value, json};

const INSTALL: &str = "install the browser that these tests use: apt-get install -y chromium chromium-driver";

/// Ends chromedriver when the pipe to the test process closes, however that process came to its end; Chromium
/// follows, because its own pipe to chromedriver closes then.
const GUARD: &str = "chromedriver --port=0 & read -r _; kill $!; wait $!";

const FLAGS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    "--window-size=1440,900",
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Script {
    On,
    Off,
}

/// Opens `page` in a browser of its own with an empty profile, hands it to `test`, and closes it in any case.
pub fn open<F: AsyncFnOnce(&Browser)>(page: &Path, address: &str, script: Script, test: F) {
    open_url(&format!("file://{}{address}", page.display()), script, test);
}

/// The same with a page that is served.
pub fn open_url<F: AsyncFnOnce(&Browser)>(url: &str, script: Script, test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let profile = tempfile::tempdir().unwrap();
        let browser = Browser { client: start(profile.path(), script).await };
        let run = AssertUnwindSafe(async {
            browser.client.goto(url).await.unwrap();
            test(&browser).await;
        });
        let outcome = run.catch_unwind().await;
        browser.client.clone().close().await.unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

async fn start(profile: &Path, script: Script) -> Client {
    let mut arguments: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    let mut options = json!({ "args": arguments });
    if script == Script::Off {
        options["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
    }
    let capabilities = json!({
        "goog:chromeOptions": options,
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    });
    let Value::Object(capabilities) = capabilities else { unreachable!("written as an object") };
    let connected =
        ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(driver_address()).await;
    connected.unwrap_or_else(|error| panic!("chromium does not start ({error}); {INSTALL}"))
}

fn driver_address() -> &'static str {
    static DRIVER: OnceLock<(Child, String)> = OnceLock::new();
    let start = || {
        for program in ["chromium", "chromedriver"] {
            let found =
                Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(found.is_ok_and(|status| status.success()), "no {program} here; {INSTALL}");
        }
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // An interrupt at the terminal then reaches the tests alone, and the guard ends the rest in order.
        let mut guard = guard.process_group(0).spawn().unwrap();
        let mut lines = BufReader::new(guard.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("started successfully on port")).expect(INSTALL);
        let port: String = line.chars().filter(char::is_ascii_digit).collect();
        std::thread::spawn(move || lines.for_each(drop));
        (guard, format!("http://127.0.0.1:{port}"))
    };
    &DRIVER.get_or_init(start).1
}

pub struct Browser {
    client: Client,
}

impl Browser {
    /// What `script`, the body of a function, returns.
    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until `expression` is true, for at most five seconds.
    pub async fn wait_for(&self, expression: &str) {
        for _ in 0..100 {
            if self.run(&format!("return Boolean({expression})")).await == true {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("never became true: {expression}");
    }

    pub async fn press(&self, keys: &str) {
        use fantoccini::actions::{InputSource, KeyAction, KeyActions};
        let mut actions = KeyActions::new("keyboard".to_owned());
        for value in keys.chars() {
            actions = actions.then(KeyAction::Down { value }).then(KeyAction::Up { value });
        }
        self.client.perform_actions(actions).await.unwrap();
    }

    pub async fn click(&self, selector: &str) {
        let element = self.client.find(fantoccini::Locator::Css(selector)).await.unwrap();
        element.click().await.unwrap();
    }

    pub async fn shown_text(&self, selector: &str) -> String {
        self.client.find(fantoccini::Locator::Css(selector)).await.unwrap().text().await.unwrap()
    }

    pub async fn is_shown(&self, selector: &str) -> bool {
        self.client.find(fantoccini::Locator::Css(selector)).await.unwrap().is_displayed().await.unwrap()
    }

    /// Messages of the console, errors and refusals of the policy among them.
    pub async fn console(&self) -> Vec<String> {
        self.log("browser").await.iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Every address that `page` asked for, its own among them; the browser's start page has its own.
    pub async fn requests_of(&self, page: &str) -> Vec<String> {
        let events = self.log("performance").await;
        let events = events.iter().map(|entry| entry["message"].as_str().unwrap());
        let events = events.map(|text| serde_json::from_str::<Value>(text).unwrap()["message"].take());
        let sent = events.filter(|event| {
            event["method"] == "Network.requestWillBeSent" && event["params"]["documentURL"] == page
        });
        sent.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// The file at `page` asked for nothing but itself, and nothing in it was refused.
    pub async fn asked_nothing_of_others(&self, page: &Path) {
        let address = format!("file://{}", page.display());
        let asked = self.requests_of(&address).await;
        let others: Vec<_> =
            asked.iter().filter(|url| **url != address && !url.starts_with("data:")).collect();
        assert!(others.is_empty(), "{others:?}");
        assert_eq!(self.console().await, Vec::<String>::new());
    }

    pub async fn command(&self, name: &str, parameters: Value) -> Value {
        self.client
            .issue_cmd(Extension("goog/cdp/execute", json!({ "cmd": name, "params": parameters })))
            .await
            .unwrap()
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.client.issue_cmd(Extension("se/log", json!({ "type": kind }))).await.unwrap();
        entries.as_array().unwrap().clone()
    }
}

/// A command of chromedriver beyond the WebDriver standard.
#[derive(Debug)]
struct Extension(&'static str, Value);

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, <Url as FromStr>::Err> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.1.to_string()))
    }
}
