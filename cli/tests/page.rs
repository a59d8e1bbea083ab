//! The page at the admin endpoint in a real browser, which has no window and is told what to do over pipes: what
//! it shows of a broker that works, of many partitions, and of one that is gone.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::TestBroker;
use support::broker_process::OwnedChild;

/// How long the browser may take for anything, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A name that would do harm if it were taken for markup.
const HOSTILE: &str =
    "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>";

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let places = std::env::split_paths(&path);
    let mut found = places
        .flat_map(|place| names.map(|name| place.join(name)))
        .filter(|file| file.is_file());
    found.next()
}

/// A browser with one page. It ends when it is dropped.
struct Browser {
    child: OwnedChild,
    orders: ChildStdin,
    events: Receiver<Value>,
    next: u64,
    session: Option<String>,
    /// What the page's scripts and policies complained about.
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Nothing if there is none on this machine, which is said.
    fn start() -> Option<Self> {
        let Some(chromium) = chromium() else {
            // Written past what the test's output is kept in, so that it is seen of a test that passes.
            let missing = "NOT CHECKED: the page in a browser, since chromium is missing (apt-get install chromium)";
            let _ = writeln!(std::io::stderr(), "{missing}");
            return None;
        };
        let profile = tempfile::tempdir().expect("a directory can be made");
        // The browser is told what to do over descriptor 3, and answers over 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"])
            .arg(chromium)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-extensions",
                "--disable-sync",
                "--window-size=1280,1400",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell runs");
        let orders = child.stdin.take().expect("it is piped");
        let said = child.stdout.take().expect("it is piped");
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            for message in BufReader::new(said).split(0) {
                let Ok(message) = message else { return };
                let message = serde_json::from_slice(&message).expect("messages are JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child: OwnedChild(child),
            orders,
            events,
            next: 1,
            session: None,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attached = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attached);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, &json!({}));
        }
        Some(browser)
    }

    /// Has the browser do something, and gives what came of it.
    #[track_caller]
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        let id = self.next;
        self.next += 1;
        let mut order = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            order["sessionId"] = session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&order).expect("plain data");
        bytes.push(0);
        self.orders.write_all(&bytes).expect("the browser runs");
        loop {
            let said = self.events.recv_timeout(PATIENCE);
            let said = said.unwrap_or_else(|error| panic!("{method} is not answered: {error}"));
            if said["id"] == id {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            self.note(&said);
        }
    }

    fn note(&mut self, event: &Value) {
        let of = &event["params"];
        let complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => &of["exceptionDetails"],
            Some("Log.entryAdded") if of["entry"]["level"] == "error" => &of["entry"],
            Some("Runtime.consoleAPICalled") if of["type"] == "error" => &of["args"],
            _ => return,
        };
        self.complaints.push(complaint.to_string());
    }

    #[track_caller]
    fn open(&mut self, address: &str) {
        let result = self.call("Page.navigate", &json!({"url": address}));
        assert!(result["errorText"].is_null(), "{result}");
    }

    /// The value of an expression in the page; of a promise, what it comes to.
    #[track_caller]
    fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.call("Runtime.evaluate", &asked);
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// Waits until an expression holds in the page. If it never does, the page's text is shown.
    #[track_caller]
    fn await_that(&mut self, condition: &str) {
        let tries = 20 * PATIENCE.as_secs() / 2;
        let came = self.value(&format!(
            "new Promise((done) => {{
                let tries = {tries};
                const look = () => {{
                    let holds = false;
                    try {{ holds = Boolean({condition}); }} catch (error) {{ /* not there yet */ }}
                    if (holds || tries-- === 0) done(holds);
                    else setTimeout(look, 50);
                }};
                look();
            }})"
        ));
        if came == true {
            return;
        }
        let text = self.value("document.body.innerText");
        panic!(
            "it never holds that {condition}; {:?}; the page:\n{}",
            self.complaints,
            text.as_str().unwrap_or_default()
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its further processes end with it. What was written to a pipe that is gone does not matter.
        let _ = self
            .orders
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let deadline = Duration::from_secs(5);
        while self.events.recv_timeout(deadline).is_ok() {}
        self.child.kill();
    }
}

/// The cells of the row of a list that has this name, as an expression.
fn cells(list: &str, name: &str) -> String {
    let name = Value::from(name);
    format!(
        "[...document.querySelectorAll('#{list} tbody tr')].map((row) => [...row.cells]\
         .map((cell) => cell.textContent)).find((cells) => cells[0] === {name})"
    )
}

/// Produces again and again, as these arguments say, while something is looked at.
fn while_producing<T>(broker: &TestBroker, to: &[&str], look: impl FnOnce() -> T) -> T {
    let produce = [&["produce"], to].concat();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                broker
                    .feed(&produce, "a\nb\nc\n".repeat(100))
                    .assert_code(0);
            }
        });
        // It ends as well where what is looked for does not come.
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
        is_over.store(true, Ordering::Relaxed);
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_broker_that_works_is_shown_with_its_rates_and_lags() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let broker = TestBroker::start_with(&[("CORELANE_CORES", "2")]);
    broker.create("orders", 4);
    broker.create("payments", 1);
    let compacted = ["--partitions", "1", "--config", "cleanup.policy=compact"];
    broker
        .run(&[&["topic", "create", "prices"], &compacted[..]].concat())
        .assert_code(0);
    broker
        .feed(&["produce", "orders"], "a\nb\nc\n")
        .assert_code(0);
    let read = ["consume", "orders", "--group", HOSTILE, "--until-end"];
    broker.run(&read).assert_code(0);
    let admin = broker.process().admin().expect("it has an admin endpoint");
    browser.open(&format!("http://{admin}/"));
    browser.await_that("document.body.dataset.state === 'serving'");
    let lanes =
        browser.value("[...document.querySelectorAll('.lane h3')].map((it) => it.textContent)");
    assert_eq!(lanes, json!(["core 0", "core 1"]));

    browser.await_that(&format!(
        "{}[8] === 'online, 0\u{a0}% to compact'",
        cells("topics", "prices")
    ));
    while_producing(&broker, &["orders"], || {
        let orders = cells("topics", "orders");
        browser.await_that(&format!("/^[1-9].*\\/s$/.test({orders}[2])"));
        browser.await_that(&format!("/[kM]?B\\/s$/.test({orders}[3])"));
        browser.await_that(
            "[...document.querySelectorAll('#tiles dd')].every((it) => it.textContent !== '–')",
        );
        browser.await_that("document.querySelectorAll('.road .busy-line[d*=L]').length === 2");
        browser.await_that("document.querySelectorAll('.plot .line.first[d*=L]').length === 3");
    });
    // Nobody reads any more, so the group is behind by whole hundreds of lines.
    let group = cells("groups", HOSTILE);
    browser.await_that(&format!("{group}[1] === 'empty'"));
    browser.await_that(&format!(
        "Number({group}[5].replaceAll(',', '')) % 300 === 0"
    ));
    browser.await_that(&format!("Number({group}[5].replaceAll(',', '')) > 0"));
    assert_eq!(
        browser.value("document.querySelectorAll('main img, main script').length"),
        0
    );

    browser.value("[...document.querySelectorAll('#topics .open')].find((it) => it.textContent === 'orders').click()");
    browser.await_that("document.querySelectorAll('#topics .inner tbody tr').length === 4");
    browser.value("document.getElementById('pause').click()");
    browser.value("document.querySelector('#groups .open').click()");
    browser.await_that("document.querySelectorAll('#groups .inner tbody tr').length > 0");
    assert_eq!(browser.value("document.body.dataset.state"), "paused");
    browser.await_that(
        "document.querySelector('#groups .inner tbody tr').cells[0].textContent === 'orders'",
    );
    assert_eq!(browser.value("document.title.includes('taken')"), false);
    assert_eq!(
        browser.value("document.getElementById('notices').textContent"),
        ""
    );
    assert_eq!(browser.complaints, [""; 0]);
}

/// Whoever looks at ten thousand partitions wants the one that is hot, or that somebody is behind in.
#[test]
fn ten_thousand_partitions_are_pages_in_which_the_hot_one_is_found() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut broker = TestBroker::start_with(&[("CORELANE_CORES", "2")]);
    broker.create("many", 10_000);
    broker.create("few", 1);
    let all = ["group", "reset-offsets", "billing", "--topic", "many"];
    broker
        .run(&[&all[..], &["--to-earliest"]].concat())
        .assert_code(0);
    let admin = broker.process().admin().expect("it has an admin endpoint");
    browser.open(&format!("http://{admin}/"));
    browser.await_that("document.body.dataset.state === 'serving'");
    browser.await_that(&format!("{}[1] === '10,000'", cells("topics", "many")));

    let inner = "document.querySelector('#topics .inner')";
    while_producing(&broker, &["many", "--partition", "7341"], || {
        let hottest =
            "document.querySelector('#partitions [aria-label=\"busy partitions\"] tbody tr')";
        browser.await_that(&format!(
            "{hottest}.cells[0].textContent === 'many' && {hottest}.cells[1].textContent === '7,341'"
        ));
        browser.await_that(&format!("/B\\/s$/.test({hottest}.cells[5].textContent)"));
        browser.value(&format!("{hottest}.querySelector('button').click()"));
        // It is on the page that is shown, and stands out there.
        browser.await_that(&format!(
            "{inner}.querySelector('.marked').cells[0].textContent === '7,341'"
        ));
        browser.await_that(&format!(
            "Number({inner}.querySelector('.marked').cells[8].textContent.replaceAll(',', '')) > 0"
        ));
    });
    browser.value("document.querySelector('#groups .open').click()");
    let furthest = "document.querySelector('#groups .inner tbody tr')";
    browser.await_that(&format!("{furthest}.cells[1].textContent === '7,341'"));
    browser.await_that(&format!("{furthest}.cells[4].textContent !== '0'"));
    for list in ["topics", "groups"] {
        assert_eq!(
            browser.value(&format!(
                "document.querySelector('#{list} .inner .where').textContent.split(' of ')[1]"
            )),
            "10,000"
        );
    }
    assert_eq!(
        browser.value("document.querySelectorAll('*').length < 2000"),
        true
    );
    let first = format!("{inner}.querySelector('table > tbody > tr').cells[0].textContent");
    let press = |button: &str| format!("{inner}.querySelector('{button}').click()");
    browser.await_that(&format!("{first} === '7,325'"));
    browser.value(&press("[aria-label=\"more partitions\"]"));
    browser.await_that(&format!("{first} === '7,350'"));
    browser.value(&press("thead button"));
    browser.await_that(&format!("{first} === '9,999'"));
    browser.value(
        "(() => {
            const filter = document.querySelector('#topics input');
            filter.value = 'FEW';
            filter.dispatchEvent(new Event('input'));
        })()",
    );
    browser.await_that("document.querySelectorAll('#topics tbody tr').length === 1");

    // A page that nobody sees asks for nothing: for longer than it ever waits between two questions.
    let asked = "performance.getEntriesByType('resource').filter((it) => it.name.includes('/v1/state')).length";
    let turn = |is_hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }});
             document.dispatchEvent(new Event('visibilitychange'))"
        )
    };
    browser.value(&turn(true));
    let before = browser.value(&format!(
        "new Promise((done) => setTimeout(() => done({asked}), 200))"
    ));
    let after = browser.value(&format!(
        "new Promise((done) => setTimeout(() => done({asked}), 1500))"
    ));
    assert_eq!(before, after);
    browser.value(&turn(false));
    browser.await_that(&format!("{asked} > {after}"));

    broker.kill();
    browser.await_that("document.body.dataset.state === 'silent'");
    browser
        .await_that("document.getElementById('notices').textContent.includes('does not answer')");
    assert_eq!(
        browser.value("document.getElementById('live').hidden"),
        false
    );
    assert_eq!(
        browser.complaints.iter().find(|it| !it.contains("ERR_")),
        None
    );
}

/// No broker is damaged for it: the table is given what a damaged one would say.
#[test]
fn partitions_that_are_not_as_they_should_be_are_named_and_lead_to_their_topic() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let broker = TestBroker::start();
    let admin = broker.process().admin().expect("it has an admin endpoint");
    browser.open(&format!("http://{admin}/"));
    browser.await_that("document.body.dataset.state === 'serving'");
    let shown = browser.value(
        "import('/page/standouts.js').then(({ Standouts }) => {
            const [place, caption, chosen] = [document.createElement('div'), document.createElement('p'), []];
            const standouts = new Standouts(place, caption, (...at) => chosen.push(at));
            const partition = (number, isOnline, damage) =>
                ({ topic: 'orders', partition: number, core: 1, store: 1, is_online: isOnline, damage });
            standouts.update({
                total: { partitions: 10000 },
                faulty: [partition(12, false, 0), partition(7341, true, 2)],
                faultyLeftOut: 5,
                busiest: null,
            });
            place.querySelector('tbody tr:last-child button').click();
            const rows = [...place.querySelectorAll('tbody tr:not([hidden] *)')];
            return {
                rows: rows.map((row) => [...row.cells].map((cell) => cell.textContent)),
                chosen,
                says: place.querySelector('.nothing').textContent,
                caption: caption.textContent,
            };
        })",
    );
    assert_eq!(
        shown["rows"],
        json!([
            ["orders", "12", "1", "1", "offline"],
            ["orders", "7,341", "1", "1", "online, 2 damaged"]
        ])
    );
    assert_eq!(shown["chosen"], json!([["orders", 7341]]));
    let says = shown["says"].as_str().expect("a text");
    assert!(says.starts_with("5 more faulty partitions"), "{says}");
    assert_eq!(shown["caption"], "10,000 partitions.");
    assert_eq!(browser.complaints, [""; 0]);
}
