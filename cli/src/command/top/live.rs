//! The live view in the terminal: fetches, keys and drawing in turn.
//!
//! Owns the terminal while it runs, and gives it back however it ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use corelane_broker::admin::fetch;
use corelane_broker::admin::state::BrokerState;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::app::{App, Key};
use super::screen;
use crate::failure::Failure;

/// How long a key may wait for its effect, while nothing else happens.
const TICK: Duration = Duration::from_millis(50);

type Fetched = Result<BrokerState, String>;

pub(super) fn run(admin: &str, interval: Duration) -> Result<(), Failure> {
    let is_over = Arc::new(AtomicBool::new(false));
    let registered = [SIGINT, SIGTERM]
        .into_iter()
        .try_for_each(|signal| signal_hook::flag::register(signal, is_over.clone()).map(drop))
        .and_then(|()| end_with_the_terminal());
    registered.map_err(|error| Failure::new(format_args!("cannot wait for signals: {error}")))?;
    let fetched = start_fetching(admin.to_owned(), interval)?;
    // With a hook that gives the terminal back if the program panics.
    let mut terminal = ratatui::try_init()
        .map_err(|error| Failure::new(format_args!("cannot use the terminal: {error}")))?;
    let outcome = show(&mut terminal, &mut App::new(admin), &fetched, &is_over);
    ratatui::restore();
    outcome.map_err(|error| Failure::new(format_args!("cannot use the terminal: {error}")))
}

/// Ends the program when its terminal is gone: reading the terminal then never returns, and a flag would not be seen.
fn end_with_the_terminal() -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            ratatui::restore();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Fetches again and again on a thread of its own, so that a broker that does not answer delays no key.
fn start_fetching(admin: String, interval: Duration) -> Result<Receiver<Fetched>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start threads: {error}")))?;
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        runtime.block_on(async {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut is_first = true;
            loop {
                ticks.tick().await;
                if sender.send(fetch(&admin).await).is_err() {
                    return;
                }
                if std::mem::take(&mut is_first) {
                    // The first rates come soon, whatever the interval.
                    tokio::time::sleep(interval.min(Duration::from_millis(500))).await;
                    if sender.send(fetch(&admin).await).is_err() {
                        return;
                    }
                }
            }
        });
    });
    Ok(receiver)
}

fn show(
    terminal: &mut DefaultTerminal,
    app: &mut App,
    fetched: &Receiver<Fetched>,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let mut is_stale = true;
    while !is_over.load(Ordering::Relaxed) {
        if std::mem::take(&mut is_stale) {
            terminal.draw(|frame| screen::draw(frame, app))?;
        }
        if event::poll(TICK)? {
            is_stale = true;
            if let Event::Key(pressed) = event::read()?
                && let Some(key) = meaning(pressed)
                && !app.press(key)
            {
                return Ok(());
            }
        }
        loop {
            match fetched.try_recv() {
                Ok(state) => {
                    app.take(state);
                    is_stale = true;
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(io::Error::other("the thread that fetches has ended"));
                }
            }
        }
    }
    Ok(())
}

fn meaning(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    let is_control = pressed.modifiers.contains(KeyModifiers::CONTROL);
    Some(match pressed.code {
        KeyCode::Char('c') if is_control => Key::Quit,
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Enter | KeyCode::Right => Key::Enter,
        KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => Key::Back,
        KeyCode::Char('s') => Key::Order,
        KeyCode::Char('p' | ' ') => Key::Pause,
        _ => return None,
    })
}
